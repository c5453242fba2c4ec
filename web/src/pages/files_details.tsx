// What one LoRA file is: its words, ranks and energies by block, who reads it, its metadata.
import { useState } from "preact/hooks";
import { get, put, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { ChooseButton } from "../components/choose_button";
import { CommandLine, copyText } from "../components/command_line";
import { Icon } from "../components/icons";
import { say } from "../components/notices";
import { Picture } from "../components/picture";
import { Failed, Problems } from "../components/problems";
import { CopyLora, RenameLora } from "../components/run_changes";
import { baseName, bytes, figure, parentOf, quantity } from "../format";
import { alter, to } from "../router";
import { BlockChart } from "./files_chart";

type Details = Schemas["FileDetails"];
type Card = Schemas["LoraCard"];

interface Props {
  path: string;
  card: Card | undefined;
  onChanged: () => void;
}

export function FileView({ path, card, onChanged }: Props) {
  const told = useFetched(
    async (signal) => (path ? get("/api/lora-files/file", { query: { path }, signal }) : null),
    [path, card?.changed],
  );
  if (!path) return <p class="empty">Choose a file to see what it is; select several to merge them.</p>;
  return (
    <div class="column">
      <div class="file-head">
        {card?.preview && (
          <Picture path={card.preview} size={384} v={card.preview_version} alt={`Preview of ${card.name}`} />
        )}
        <div class="column">
          <h2 class="breaks">{baseName(path)}</h2>
          <p class="soft small breaks">{parentOf(path)}</p>
          <FileActions path={path} card={card} onChanged={onChanged} />
        </div>
      </div>
      {told.error !== undefined && <Failed error={told.error} />}
      {told.data ? <Told told={told.data} card={card} /> : told.loading && <p class="soft">Reading the file …</p>}
    </div>
  );
}

function FileActions({ path, card, onChanged }: Props) {
  const [renaming, setRenaming] = useState(false);
  async function setPreview(picture: string) {
    await put("/api/draw/lora-preview", { body: { lora: path, picture } });
    say(`${baseName(path)} has a preview.`);
    onChanged();
  }
  return (
    <div class="row wrap">
      <a class="button" href={to("/api/lora", { path })} download={baseName(path)}>
        <Icon name="arrowDown" /> Download
      </a>
      <CopyLora path={path} icon="copy">
        Copy to a folder
      </CopyLora>
      <ChooseButton
        icon="image"
        heading={card?.preview ? "A PNG in place of the preview" : "A PNG as preview"}
        kinds={["image"]}
        start={parentOf(path)}
        onChoose={setPreview}
      >
        {card?.preview ? "Another preview" : "Set a preview"}
      </ChooseButton>
      <Button icon="pen" onClick={() => setRenaming(true)}>
        Rename
      </Button>
      {renaming && (
        <RenameLora
          path={path}
          onClose={() => setRenaming(false)}
          onRenamed={(next) => (say(`It is ${baseName(next)} now.`), onChanged(), alter({ lora: next }))}
        />
      )}
    </div>
  );
}

function Told({ told, card }: { told: Details; card: Card | undefined }) {
  const triggers = told.triggers.length ? told.triggers : card?.trigger ? [card.trigger] : [];
  return (
    <>
      <CommandLine line={told.command_line} />
      <Problems warning problems={told.wrong.map((what) => ({ what }))} />
      <dl class="file-facts">
        <Fact name="family" text={told.family} more={told.family_why} />
        <Fact
          name="type"
          text={Object.entries(told.types)
            .map(([type, count]) => `${type}, ${quantity(count, "module")}`)
            .join("; ")}
        />
        <Fact
          name="rank, alpha"
          text={told.sizes.map((each) => `${each.rank}, ${figure(each.alpha)} (${each.modules})`).join("; ")}
        />
        <Fact name="size" text={bytes(told.size)} />
        {told.facts.map((each) => (
          <Fact key={each.name} name={each.name} text={each.text} />
        ))}
      </dl>
      {triggers.length > 0 && (
        <section class="column" aria-label="Trigger words">
          <h3>Trigger words</h3>
          <div class="row wrap">
            {triggers.map((word) => (
              <Button key={word} icon="copy" title="Copy" onClick={() => copyText(word)}>
                {word}
              </Button>
            ))}
          </div>
          {!told.said && <p class="soft small">Nearly all captions of its training have them.</p>}
        </section>
      )}
      {told.blocks.length > 0 && (
        <section class="column" aria-label="By block">
          <h3>Energy and ranks by block</h3>
          <BlockChart
            name="Share of the energy"
            rows={told.blocks.map((each) => ({
              block: each.block,
              share: each.energy,
              text: `${(100 * each.energy).toFixed(1)} %`,
              ranks: ranks(each.least_rank, each.most_rank),
            }))}
          />
        </section>
      )}
      {told.readers.length > 0 && (
        <section class="column" aria-label="Who reads it">
          <h3>Who reads it</h3>
          <dl class="file-facts">
            {told.readers.map((each) => (
              <Fact key={each.program} name={each.program} text={each.reads} more={each.why} />
            ))}
          </dl>
        </section>
      )}
      {told.coverage.length > 0 && (
        <details>
          <summary>Layers that it adapts</summary>
          <dl class="file-facts">
            {told.coverage.map((each) => (
              <Fact
                key={`${each.part} ${each.group}`}
                name={`${each.part}, ${each.group}`}
                text={`${each.adapted} of ${each.layers}`}
              />
            ))}
          </dl>
        </details>
      )}
      {told.folders.some((each) => each.tags.length) && (
        <details>
          <summary>Tags of its training</summary>
          {told.folders.map((folder) => (
            <div key={folder.name} class="column">
              <p class="mono breaks">
                {folder.name}
                {folder.pictures != null && <span class="soft"> {quantity(folder.pictures, "picture")}</span>}
              </p>
              <p class="breaks">
                {folder.tags.map((each) => (
                  <span key={each.tag} class="tag-count">
                    {each.tag} <span class="soft number">{each.count}</span>
                  </span>
                ))}
              </p>
            </div>
          ))}
        </details>
      )}
      <Entries title="Training" entries={told.training} />
      <Entries title="Metadata" entries={told.metadata} />
    </>
  );
}

export const ranks = (least: number, most: number): string => (least === most ? `${most}` : `${least} to ${most}`);

function Fact({ name, text, more = "" }: { name: string; text: string; more?: string }) {
  if (!text) return null;
  return (
    <div>
      <dt class="soft">{name}</dt>
      <dd class="breaks">
        {text}
        {more && <span class="soft small"> {more}</span>}
      </dd>
    </div>
  );
}

/** A stranger's texts, as texts. */
function Entries({ title, entries }: { title: string; entries: Details["metadata"] }) {
  if (!entries.length) return null;
  return (
    <details>
      <summary>
        {title} <span class="soft number">{entries.length}</span>
      </summary>
      <dl class="file-entries">
        {entries.map((each) => (
          <div key={each.name}>
            <dt class="mono breaks">{each.name}</dt>
            <dd class="mono breaks">
              {each.text}
              {each.cut > 0 && <span class="soft"> … and {quantity(each.cut, "character")} more</span>}
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
