// Several folders of pictures, each with what it has of its own.
import { Button } from "../components/button";
import { ChooseButton } from "../components/choose_button";

type Folder = Record<string, unknown>;

interface Props {
  id: string;
  described: string;
  value: unknown;
  onChange: (folders: Folder[] | undefined) => void;
}

const HEADING = "Choose a folder of pictures";
const SHOWN = new Set(["path", "repeats", "reg", "caption"]);

/** What numbers are written as; other words stay, so that the plan says what is wrong with them. */
const numberOf = (text: string): unknown => (/^\d+$/.test(text.trim()) ? Number(text) : text.trim());

export function Folders({ id, described, value, onChange }: Props) {
  const folders = (Array.isArray(value) ? value : []) as Folder[];

  function change(index: number, name: string, next: unknown) {
    const isNothing = next === "" || next === false;
    onChange(
      folders.map((each, at) => {
        if (at !== index) return each;
        const { [name]: _, ...others } = each;
        return isNothing && name !== "path" ? others : { ...others, [name]: next };
      }),
    );
  }

  return (
    <div class="folders" id={id} role="group" aria-label="Folders of pictures" aria-describedby={described}>
      {folders.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Folder</th>
              <th scope="col">Repeats</th>
              <th scope="col">Caption of those without</th>
              <th scope="col">To regularise</th>
              <th scope="col">
                <span class="unseen">Remove</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {folders.map((folder, index) => {
              const where = `folder ${index + 1}`;
              const others = Object.keys(folder).filter((name) => !SHOWN.has(name));
              return (
                <tr key={index}>
                  <td>
                    <span class="row">
                      <input
                        class="input"
                        aria-label={`Path of ${where}`}
                        spellcheck={false}
                        value={String(folder.path ?? "")}
                        onInput={(event) => change(index, "path", event.currentTarget.value)}
                      />
                      <ChooseButton
                        icon="folder"
                        label={`Choose ${where}`}
                        heading={HEADING}
                        kinds={["folder"]}
                        onChoose={(path) => change(index, "path", path)}
                      />
                    </span>
                    {others.length > 0 && (
                      <span class="soft small mono">
                        {others.map((name) => `${name} = ${JSON.stringify(folder[name])}`).join(", ")}
                      </span>
                    )}
                  </td>
                  <td>
                    <input
                      class="input number"
                      aria-label={`Repeats of ${where}`}
                      inputMode="numeric"
                      placeholder="1"
                      value={String(folder.repeats ?? "")}
                      onInput={(event) => change(index, "repeats", numberOf(event.currentTarget.value))}
                    />
                  </td>
                  <td>
                    <input
                      class="input"
                      aria-label={`Caption of pictures without one in ${where}`}
                      value={String(folder.caption ?? "")}
                      onInput={(event) => change(index, "caption", event.currentTarget.value)}
                    />
                  </td>
                  <td>
                    <input
                      type="checkbox"
                      aria-label={`Regularise by ${where}`}
                      checked={folder.reg === true}
                      onChange={(event) => change(index, "reg", event.currentTarget.checked)}
                    />
                  </td>
                  <td>
                    <Button
                      kind="quiet"
                      icon="trash"
                      label={`Leave ${where} out`}
                      onClick={() => {
                        const rest = folders.filter((_, at) => at !== index);
                        onChange(rest.length ? rest : undefined);
                      }}
                    />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
      <ChooseButton
        icon="add"
        heading={HEADING}
        kinds={["folder"]}
        onChoose={(path) => onChange([...folders, { path }])}
      >
        Add a folder…
      </ChooseButton>
    </div>
  );
}
