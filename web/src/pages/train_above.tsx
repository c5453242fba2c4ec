// What stands above the settings: where the pictures may come from, presets, and the sections.
import { get, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { ChooseButton } from "../components/choose_button";
import { valueText } from "../format";
import { to } from "../router";
import { type Draft, isGiven } from "./train_draft";

export function NoPictures({ project, onChoose }: { project: string; onChoose: (folder: string) => void }) {
  return (
    <div class="panel empty">
      <p>
        {project
          ? "This project has no pictures yet."
          : "Choose what to train on: a project in the bar above, or any folder of pictures."}
      </p>
      <div class="row">
        <ChooseButton kind="primary" icon="folder" heading="Choose the pictures" kinds={["folder"]} onChoose={onChoose}>
          Choose a folder…
        </ChooseButton>
        {project && (
          <a class="button" href={to("/", { project })}>
            Copy pictures in
          </a>
        )}
      </div>
    </div>
  );
}

export function SectionLinks({ sections, draft }: { sections: readonly Schemas["SectionRecord"][]; draft: Draft }) {
  return (
    <nav class="section-links small" aria-label="Sections">
      {sections.map((section) => {
        const count = section.settings.filter((each) => isGiven(draft, each.path)).length;
        return (
          <button
            key={section.name}
            type="button"
            class="link"
            onClick={() => {
              const heading = document.getElementById(`section-${section.name}`);
              heading?.scrollIntoView();
              heading?.focus({ preventScroll: true });
            }}
          >
            {section.name}
            {count > 0 && <b class="number"> {count}</b>}
          </button>
        );
      })}
    </nav>
  );
}

interface PresetProps {
  chosen: string;
  onChoose: (name: string) => void;
  onReveal: (path: string) => void;
}

export function PresetChoice({ chosen, onChoose, onReveal }: PresetProps) {
  const found = useFetched((signal) => get("/api/presets", { signal }), []);
  const preset = found.data?.find((each) => each.name === chosen);
  return (
    <section class="panel preset" aria-label="Preset">
      <label class="row">
        <span>Preset</span>
        <select class="input" value={chosen} onChange={(event) => onChoose(event.currentTarget.value)}>
          <option value="">none: what suits the base model and the pictures</option>
          {found.data?.map((each) => (
            <option key={each.name} value={each.name}>
              {each.name}: {each.summary}
            </option>
          ))}
        </select>
      </label>
      {preset && <p class="soft">{preset.explains}</p>}
      {preset && (
        <p class="small">
          {Object.entries(preset.values).map(([path, value]) => (
            <button key={path} type="button" class="link mono" onClick={() => onReveal(path)}>
              {path} = {valueText(value)}
            </button>
          ))}
        </p>
      )}
    </section>
  );
}
