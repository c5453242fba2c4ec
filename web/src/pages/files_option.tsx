// An option of a command as a field of a form: what it is, what it may be, and what is wrong with it.
import { useId, useState } from "preact/hooks";
import type { Problem, Schemas } from "../api/client";
import { Button } from "../components/button";
import { Coded } from "../components/coded";
import { ChooseButton } from "../components/choose_button";
import { FieldProblems } from "../components/problems";
import { baseName, folderIn, joined } from "../format";
import { textOf, valueOf } from "./train_draft";

type Field = Schemas["ToolField"];

interface FieldProps {
  field: Field;
  value: unknown;
  /** It was said here, rather than filled in. */
  given: boolean;
  /** Files that a list of LoRAs may be filled with. */
  selected?: readonly string[];
  problems: readonly Problem[];
  /** Of files that it may name; a new file lies in a folder. */
  kinds: readonly Schemas["Entry"]["kind"][];
  onChange: (name: string, value: unknown) => void;
}

export function OptionField({ field, value, given, selected = [], problems, kinds, onChange }: FieldProps) {
  const id = useId();
  const [typed, setTyped] = useState<string | null>(null);
  const text = typed ?? textOf(field, value);
  const isPath = field.names !== "" && field.names !== "loras";
  const usual = field.default_text || (field.required ? "" : textOf(field, field.default));
  const common = {
    id,
    class: "input",
    "aria-describedby": `${id}-help${problems.length ? ` ${id}-problems` : ""}`,
    "aria-invalid": problems.length ? true : undefined,
    spellcheck: false,
    autocomplete: "off",
  } as const;
  function type(next: string) {
    setTyped(next);
    onChange(field.name, valueOf(field, next));
  }
  function choose(path: string) {
    setTyped(null);
    onChange(field.name, field.names === "new" ? joined(path, baseName(text) || "new.safetensors") : path);
  }
  return (
    <div class={given ? "tool-field given" : "tool-field"}>
      <label for={id} class="mono">
        {field.flag}
        {field.unit && <span class="soft small"> {field.unit}</span>}
      </label>
      <div class="row">
        {field.input === "switch" ? (
          <input
            type="checkbox"
            {...common}
            class=""
            checked={value === true}
            onChange={(event) => onChange(field.name, event.currentTarget.checked || undefined)}
          />
        ) : field.input === "choice" ? (
          <select
            {...common}
            value={text}
            onChange={(event) => onChange(field.name, event.currentTarget.value || undefined)}
          >
            <option value="">by itself{usual && `: ${usual}`}</option>
            {field.choices.map((each) => (
              <option key={each} value={each}>
                {each}
              </option>
            ))}
          </select>
        ) : field.input === "list" ? (
          <textarea
            {...common}
            rows={Math.min(8, Math.max(2, text.split("\n").length))}
            value={text}
            onInput={(event) => type(event.currentTarget.value)}
            onBlur={() => setTyped(null)}
          />
        ) : (
          <input
            type="text"
            {...common}
            placeholder={usual}
            inputMode={field.input === "number" || field.input === "integer" ? "decimal" : undefined}
            value={text}
            onInput={(event) => type(event.currentTarget.value)}
            onBlur={() => setTyped(null)}
          />
        )}
        {isPath && (
          <ChooseButton
            icon="folder"
            label={`Choose ${field.flag}`}
            kinds={field.names === "new" ? ["folder"] : kinds}
            choose={field.names === "new" ? "Into this folder" : "Take this folder"}
            start={folderIn(text)}
            onChoose={choose}
          />
        )}
        {given && (
          <Button
            kind="quiet"
            icon="undo"
            label={`Leave ${field.flag} as it is by itself`}
            onClick={() => (setTyped(null), onChange(field.name, undefined))}
          />
        )}
      </div>
      {field.names === "loras" && (
        <p class="soft small">
          One a line; its weight stands behind it.{" "}
          {given && selected.length > 0 && (
            <Button
              kind="quiet"
              onClick={() => (setTyped(null), onChange(field.name, undefined))}
            >{`Take the ${selected.length} selected`}</Button>
          )}
        </p>
      )}
      <p class="soft small" id={`${id}-help`}>
        <Coded text={field.description} />
        {field.range && `; ${field.range}`}.
      </p>
      <FieldProblems id={`${id}-problems`} problems={problems} />
    </div>
  );
}
