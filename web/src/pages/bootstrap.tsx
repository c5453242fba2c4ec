// From one picture, or a few, to a LoRA: begin, and the bootstraps that there are.
import { get, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { baseName, quantity, when } from "../format";
import { project } from "../project";
import { query, to } from "../router";
import { Begin } from "./bootstrap_begin";
import { OneBootstrap } from "./bootstrap_one";
import { roundAndState } from "./bootstrap_state";

type Listed = Schemas["BootstrapListed"];

export function BootstrapPage() {
  const path = query.value.get("path");
  return path ? <OneBootstrap key={path} path={path} /> : <BeginPage key={project.value} />;
}

function BeginPage() {
  const found = useFetched(
    (signal) => get("/api/bootstraps", { query: { project: project.value }, signal }),
    [project.value],
    ["bootstraps", "jobs"],
  );
  return (
    <main id="content" class="boot-begin">
      <Begin />
      <aside aria-label="Bootstraps that there are">
        <section class="panel">
          <header>
            <h2>Begun</h2>
          </header>
          {found.error !== undefined && <Failed error={found.error} />}
          {found.data?.length === 0 && (
            <p class="empty">
              None yet. What is begun here, or by <code>lorasmith bootstrap</code> in this workspace, is listed here and
              can be gone on with at any time.
            </p>
          )}
          <ul>
            {found.data?.map((each) => (
              <ListedRow key={each.path} one={each} />
            ))}
          </ul>
        </section>
      </aside>
    </main>
  );
}

function ListedRow({ one }: { one: Listed }) {
  return (
    <li class="boot-listed">
      {one.cover && <Picture path={one.cover.path} v={one.cover.version} size={128} alt="" />}
      <div>
        <a href={to("/bootstrap", { path: one.path, project: project.value })} title={one.path}>
          {one.trigger || baseName(one.path)}
        </a>
        {one.problem ? (
          <p class="small job-message">{one.problem}</p>
        ) : (
          <>
            <p class="small">{roundAndState(one)}</p>
            <p class="soft small number">
              {quantity(one.given, "picture")} given, {quantity(one.drawn, "drawing")} · {when(one.changed)}
            </p>
          </>
        )}
      </div>
    </li>
  );
}
