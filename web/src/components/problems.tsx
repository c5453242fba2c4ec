import { problemsOf, type Problem } from "../api/client";

/** What is wrong, as the library says it: where, what, and what to do. */
export function Problems({ problems, warning = false }: { problems: readonly Partial<Problem>[]; warning?: boolean }) {
  if (!problems.length) return null;
  return (
    <ul class={warning ? "problems warning" : "problems"} role={warning ? undefined : "alert"}>
      {problems.map(({ where, what, hint }) => (
        <li>
          {where && <span class="where">{where}: </span>}
          {what}
          {hint && <div class="soft">{hint}</div>}
        </li>
      ))}
    </ul>
  );
}

/** What is wrong with one field of a form, which names it by `id`. */
export function FieldProblems(props: { id: string; problems: readonly Problem[]; class?: string }) {
  if (!props.problems.length) return null;
  return (
    <div id={props.id} class={props.class ?? "field-problem"} role="alert">
      {props.problems.map((each) => (
        <p key={each.what}>
          {each.what}
          {each.hint && <span class="soft">; {each.hint}</span>}
        </p>
      ))}
    </div>
  );
}

export const Failed = ({ error }: { error: unknown }) => <Problems problems={problemsOf(error)} />;
