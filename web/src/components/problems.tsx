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

export const Failed = ({ error }: { error: unknown }) => <Problems problems={problemsOf(error)} />;
