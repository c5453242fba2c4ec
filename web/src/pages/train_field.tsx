// One setting: what it is, what it may be, why it is so, and what is wrong with it.
import { useEffect, useId, useState } from "preact/hooks";
import type { Problem, Schemas } from "../api/client";
import { Button } from "../components/button";
import { ChooseButton } from "../components/choose_button";
import { Coded } from "../components/coded";
import { FieldProblems } from "../components/problems";
import { folderIn, valueText } from "../format";
import { Folders } from "./train_folders";
import { isAsAdvised, type Setting, textOf, valueOf } from "./train_draft";

type Advised = Schemas["AdvisedSetting"];

export interface FieldProps {
  setting: Setting;
  /** As it was set here; undefined where it was not. */
  value: unknown;
  several: string[] | undefined;
  /** What it will be, and who says so; undefined where there is no plan. */
  effective: unknown;
  origin: string;
  problems: readonly Problem[];
  warnings: readonly Problem[];
  advised: Advised | undefined;
  onChange: (path: string, value: unknown) => void;
  onSeveral: (path: string, texts: string[]) => void;
}

const ONE_LINE = new Set(["number", "integer", "text", "path"]);

export function Field(props: FieldProps) {
  const { setting, value, several, effective, origin, problems, warnings, advised, onChange, onSeveral } = props;
  const id = useId();
  const [spread, setSpread] = useState(false);
  const isGiven = value !== undefined || several !== undefined;
  const isWide = setting.input === "list" || setting.input === "table" || setting.input === "path";
  const isNumber = setting.input === "number" || setting.input === "integer";
  const canSpread = setting.input !== "list" && setting.input !== "table";
  const described = `${id}-help${problems.length ? ` ${id}-problems` : ""}`;
  return (
    <div class={`setting ${isGiven ? "given" : ""} ${isWide ? "wide" : ""}`} id={`setting-${setting.path}`}>
      <div class="setting-name">
        {setting.path === "data.folders" ? (
          <b class="mono">{setting.path}</b>
        ) : (
          <label for={id} class="mono">
            {setting.path}
          </label>
        )}
        {setting.unit && <span class="soft small">{setting.unit}</span>}
      </div>
      <div class="setting-control">
        {!isNumber && (spread || several) ? (
          <Spread {...props} id={id} described={described} onDone={() => setSpread(false)} />
        ) : (
          <Control {...props} id={id} described={described} />
        )}
        <span class="setting-tools">
          {canSpread && !several && !spread && (
            <Button
              kind="quiet"
              icon="add"
              label={`Several values of ${setting.path}`}
              title="Several values: one training for each"
              onClick={() => {
                setSpread(true);
                if (isNumber) document.getElementById(id)?.focus();
              }}
            />
          )}
          {(isGiven || spread) && (
            <Button
              kind="quiet"
              icon="undo"
              label={`Leave ${setting.path} as it is by itself`}
              onClick={() => (setSpread(false), onChange(setting.path, undefined))}
            />
          )}
        </span>
      </div>
      <div class="setting-help" id={`${id}-help`}>
        <span>
          <Coded text={capital(sentence(setting.description))} />
        </span>{" "}
        <Facts setting={setting} effective={effective} origin={origin} />
      </div>
      {isNumber && spread && !several && (
        <p class="setting-line">Write them with commas, as in 4, 8, 16: one training for each.</p>
      )}
      {several && (
        <p class="setting-line">
          {several.length} values: <b>one training for each</b>.
        </p>
      )}
      {advised && !several?.includes(textOf(setting, advised.value)) && (
        <AdvisedLine {...{ setting, advised, value, effective, onChange, onSeveral }} />
      )}
      {warnings.map((each) => (
        <p key={each.what} class="setting-line warning">
          Worth a look: {each.what}
          {each.hint && `; ${each.hint}`}
        </p>
      ))}
      <FieldProblems id={`${id}-problems`} problems={problems} class="setting-line problem" />
    </div>
  );
}

const sentence = (text: string): string => (/[.?!]$/.test(text) ? text : `${text}.`);

/** Its range, its default, and the reason of that. */
function Facts({ setting, effective, origin }: { setting: Setting; effective: unknown; origin: string }) {
  const isOther = origin && effective !== undefined && !same(effective, setting.default);
  return (
    <span class="soft">
      {setting.input === "list" && setting.path !== "data.folders" && "One a line. "}
      {setting.input === "table" && "One a line, as in weight_decay=0.01. "}
      {setting.range && `${capital(setting.range)}. `}
      {isOther && (
        <>
          Here <b>{shortened(valueText(effective))}</b>, by {origin}.{" "}
        </>
      )}
      By itself {shortened(valueText(setting.default))}: <Coded text={sentence(setting.why)} />
    </span>
  );
}

/** But for what begins with the name of a kind, as in "lokr: …". */
const capital = (text: string): string => (/^\w+:/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1));
const shortened = (text: string): string => (text.length > 60 ? `${text.slice(0, 59)}…` : text);
const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

function AdvisedLine(props: Pick<FieldProps, "setting" | "value" | "effective" | "onChange"> & { advised: Advised }) {
  const { setting, advised, value, effective, onChange } = props;
  const isSo = isAsAdvised(setting, value, effective, advised.value);
  return (
    <p class="setting-line advice">
      <span>
        {isSo ? (
          "As advised: "
        ) : (
          <>
            Advised: <b class="mono">{shortened(textOf(setting, advised.value) || "none")}</b>,{" "}
          </>
        )}
        {advised.reason} <From source={advised.source} />
      </span>
      {!isSo && (
        <Button
          kind="quiet"
          onClick={() => onChange(setting.path, advised.value)}
          label={`Take the advice for ${setting.path}`}
        >
          Take
        </Button>
      )}
    </p>
  );
}

/** The guide, paper or page that says so. */
function From({ source }: { source: Advised["source"] }) {
  if (!source.address) return <span class="soft">({source.name})</span>;
  return (
    <span class="soft">
      (
      <a href={source.address} target="_blank" rel="noopener noreferrer" title={source.title}>
        {source.name}
      </a>
      )
    </span>
  );
}

type ControlProps = FieldProps & { id: string; described: string };

function Control(props: ControlProps) {
  const { setting, value, effective, problems, id, described, onChange } = props;
  const shown = value !== undefined ? value : (effective ?? setting.default);
  const common = { id, "aria-describedby": described, "aria-invalid": problems.length ? true : undefined };
  if (setting.input === "switch") {
    return (
      <span class="row">
        <input
          type="checkbox"
          {...common}
          checked={shown === true || shown === "true"}
          onChange={(event) => onChange(setting.path, event.currentTarget.checked)}
        />
      </span>
    );
  }
  if (setting.input === "choice") {
    const choices = [...setting.choices, ...(setting.optional && !setting.choices.includes("none") ? ["none"] : [])];
    return (
      <select
        class="input"
        {...common}
        value={textOf(setting, shown)}
        onChange={(event) => onChange(setting.path, valueOf(setting, event.currentTarget.value))}
      >
        {choices.map((choice) => (
          <option key={choice}>{choice}</option>
        ))}
      </select>
    );
  }
  if (setting.path === "data.folders") {
    return <Folders {...{ id, described, value }} onChange={(folders) => onChange(setting.path, folders)} />;
  }
  return <TextControl {...props} />;
}

function TextControl({ setting, value, several, effective, problems, id, described, ...on }: ControlProps) {
  const { onChange, onSeveral } = on;
  const [text, setText] = useTyped(several ? several.join(", ") : textOf(setting, value));
  const isNumber = setting.input === "number" || setting.input === "integer";
  const usual = textOf(setting, effective ?? setting.default);
  const known = [...setting.choices, ...setting.suggestions];
  const common = {
    id,
    class: "input",
    "aria-describedby": described,
    "aria-invalid": problems.length ? true : undefined,
    placeholder: usual || (setting.optional ? "none" : ""),
    spellcheck: false,
    autocomplete: "off",
  } as const;
  function typed(next: string) {
    setText(next);
    if (isNumber && next.includes(",")) onSeveral(setting.path, next.split(","));
    else onChange(setting.path, valueOf(setting, next));
  }
  if (!ONE_LINE.has(setting.input)) {
    const rows = Math.min(8, Math.max(2, text.split("\n").length));
    return <textarea {...common} rows={rows} value={text} onInput={(event) => typed(event.currentTarget.value)} />;
  }
  const isFile = setting.input === "path" || setting.path === "model.path";
  return (
    <>
      <input
        type="text"
        {...common}
        list={known.length ? `${id}-known` : undefined}
        inputMode={isNumber && !known.length ? "decimal" : undefined}
        value={text}
        onInput={(event) => typed(event.currentTarget.value)}
      />
      {known.length > 0 && (
        <datalist id={`${id}-known`}>
          {known.map((each) => (
            <option key={each} value={each} />
          ))}
        </datalist>
      )}
      {isFile && (
        <ChooseButton
          icon="folder"
          label={`Choose ${setting.path}`}
          kinds={setting.path === "model.path" ? ["lora", "folder"] : ["folder", "lora", "text"]}
          start={typeof value === "string" ? folderIn(value) : undefined}
          onChoose={(path) => onChange(setting.path, path)}
        />
      )}
    </>
  );
}

/** Several values: marked among the choices, or one a line. */
function Spread(props: ControlProps & { onDone: () => void }) {
  const { setting, value, several, effective, id, described, onChange, onSeveral, onDone } = props;
  const now = several ?? [textOf(setting, value ?? effective ?? setting.default)].filter(Boolean);
  const choices = setting.input === "switch" ? ["true", "false"] : setting.input === "choice" ? setting.choices : null;
  const [text, setText] = useTyped(now.join("\n"));
  if (choices) {
    return (
      <fieldset class="spread" aria-describedby={described}>
        <legend class="unseen">Values of {setting.path}</legend>
        {choices.map((choice, index) => (
          <label key={choice} class="row">
            <input
              type="checkbox"
              id={index ? undefined : id}
              checked={now.includes(choice)}
              onChange={(event) => {
                const marked = event.currentTarget.checked;
                const next = choices.filter((each) => (each === choice ? marked : now.includes(each)));
                if (next.length < 2) onDone();
                onSeveral(setting.path, next);
              }}
            />
            {choice}
          </label>
        ))}
      </fieldset>
    );
  }
  function typed(next: string) {
    setText(next);
    const texts = next.split("\n");
    if (texts.filter((each) => each.trim()).length > 1) onSeveral(setting.path, texts);
    else onChange(setting.path, valueOf(setting, texts.join("").trim()));
  }
  return (
    <textarea
      id={id}
      class="input"
      aria-describedby={described}
      spellcheck={false}
      rows={3}
      placeholder="one value a line"
      value={text}
      onInput={(event) => typed(event.currentTarget.value)}
    />
  );
}

/** What is typed stays as it was typed, until the value is another. */
function useTyped(text: string): [string, (text: string) => void] {
  const [typed, setTyped] = useState(text);
  const plain = (each: string) => each.replace(/[\s,]+/g, " ").trim();
  useEffect(() => {
    if (plain(typed) !== plain(text)) setTyped(text);
  }, [text]);
  return [typed, setTyped];
}
