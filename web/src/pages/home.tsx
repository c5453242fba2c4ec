// Projects, what runs, and how to begin.
import { useState } from "preact/hooks";
import { get, imageAddress, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { OpenFolder } from "../components/choose_button";
import { CommandLine } from "../components/command_line";
import { Icon } from "../components/icons";
import { JobList } from "../components/job_list";
import { CopyIn } from "../components/on_demand";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { NoRuns, RunTable } from "../components/run_table";
import { demoJob, tryDemo } from "../demo";
import { type Dropped, incomingSettings, settingsAmong, useFileDrop } from "../dropping";
import { baseName, bytes, quantity, shellWord } from "../format";
import { ended, jobs, running, waiting } from "../jobs";
import { FEW_PICTURES, projects, projectsError, projectsKnown } from "../project";
import { go, query, to } from "../router";
import { session } from "../session";
import { beginTour, tourSeen } from "../tour";

type Project = Schemas["ProjectOut"];

export function HomePage() {
  const project = query.value.get("project");
  const [dropped, setDropped] = useState<Dropped[] | null>(null);

  function take(files: Dropped[]) {
    const settings = settingsAmong(files);
    if (settings) {
      incomingSettings.value = settings;
      go(to("/train", { project }));
      return;
    }
    setDropped(files);
  }
  const { over, events } = useFileDrop(take);

  return (
    <main id="content" class={over ? "home over" : "home"} {...events}>
      <div class="home-main">{project ? <OneProject path={project} /> : <Projects />}</div>
      <aside class="home-side" aria-label="Begin, queue, computer">
        <Begin onFiles={take} />
        <QueuePanel />
        <Computer />
      </aside>
      {dropped && <CopyIn dropped={dropped} into={project} onClose={() => setDropped(null)} />}
    </main>
  );
}

function Begin({ onFiles }: { onFiles: (files: Dropped[]) => void }) {
  const demo = demoJob.value;
  return (
    <section class="panel">
      <header>
        <h2>Begin</h2>
      </header>
      <div class="body begin">
        <div>
          <OpenFolder />
          <p class="soft small">Works where the pictures lie; nothing is copied.</p>
        </div>
        <div>
          <AddFiles onFiles={onFiles}>
            {(choose) => (
              <Button icon="image" onClick={choose}>
                Copy files in…
              </Button>
            )}
          </AddFiles>
          <p class="soft small">Or drop pictures, a folder, a zip, or another trainer's settings on this page.</p>
        </div>
        <div>
          <Button icon="play" onClick={tryDemo} disabled={demo !== undefined}>
            Try the demo
          </Button>
          <p class="soft small">
            {demo
              ? "It is on its way; see the queue."
              : "Trains the small model inside lorasmith on its own character, in a few minutes, on any computer."}
          </p>
        </div>
        <div>
          <Button kind={tourSeen.value ? "quiet" : "plain"} icon="right" onClick={beginTour}>
            Show me around
          </Button>
          {!tourSeen.value && <p class="soft small">Two minutes through the pages, on the demo.</p>}
        </div>
      </div>
    </section>
  );
}

function Projects() {
  const error = projectsError.value;
  if (error !== undefined && !projectsKnown.value) return <Failed error={error} />;
  if (!projectsKnown.value) return <p class="soft">Reading the workspace…</p>;
  return (
    <>
      <header class="row wrap">
        <h1>Projects</h1>
        <span class="soft cut" title={session.value?.workspace}>
          in {session.value?.workspace}
        </span>
      </header>
      {projects.value.length ? (
        <ul class="projects">
          {projects.value.map((project) => (
            <ProjectCard key={project.path} project={project} />
          ))}
        </ul>
      ) : (
        <FirstSteps />
      )}
    </>
  );
}

function FirstSteps() {
  return (
    <div class="panel first-steps">
      <h2>From a folder of pictures to a LoRA</h2>
      <ol>
        <li>
          <b>Open a folder</b> with ten to sixty pictures of one character, style or thing, or drop them here.
        </li>
        <li>
          <b>Look at the dataset</b>: lorasmith says what is wrong with it and mends it when asked; captions come from
          the tagger and your own keys.
        </li>
        <li>
          <b>Train</b>: name the base model; everything else is chosen for your pictures, and says why.
        </li>
      </ol>
      <p class="soft">
        Only one picture of it, or two? <a href="/bootstrap">Bootstrap</a> makes more of them.
      </p>
      <p class="soft">To see it work first, try the demo: one click, a few minutes, no download.</p>
    </div>
  );
}

function ProjectCard({ project }: { project: Project }) {
  const target = to("/", { project: project.path });
  return (
    <li class="panel project-card">
      <a class="cover" href={target} tabIndex={-1} aria-hidden="true">
        {project.cover ? <Picture path={project.cover} size={384} alt="" /> : <Icon name="image" />}
      </a>
      <div class="words">
        <h2 class="cut">
          <a href={target}>{project.name}</a>
        </h2>
        <p class="soft small number">{counts(project)}</p>
        <p class="row">
          <a href={to("/dataset", { path: project.path })}>Dataset</a>
          <a href={to("/train", { project: project.path })}>Train</a>
          {project.runs > 0 && <a href={to("/run", { project: project.path })}>Runs</a>}
        </p>
      </div>
    </li>
  );
}

function counts(project: Project): string {
  const parts = [quantity(project.images, "picture")];
  if (project.runs) parts.push(quantity(project.runs, "run"));
  if (project.loras) parts.push(quantity(project.loras, "LoRA"));
  return parts.join(" · ");
}

function OneProject({ path }: { path: string }) {
  const found = useFetched((signal) => get("/api/project", { query: { path }, signal }), [path], ["projects", "jobs"]);
  const runs = useFetched(
    (signal) => get("/api/runs", { query: { project: path }, signal }),
    [path],
    ["projects", "jobs"],
  );
  const project = found.data;
  return (
    <>
      <header class="row wrap">
        <a href="/" class="button quiet">
          <Icon name="left" /> All projects
        </a>
        <h1 class="cut">{baseName(path)}</h1>
        <span class="push" />
        <a class="button" href={to("/dataset", { path: project?.dataset ?? path, project: path })}>
          Dataset
        </a>
        <a class="button primary" href={to("/train", { project: path })}>
          Train
        </a>
      </header>
      {found.error !== undefined && <Failed error={found.error} />}
      {project && (
        <p class="soft number">
          {counts(project)}
          {project.images > 0 && project.images < FEW_PICTURES && (
            <>
              : few to train on; <a href={to("/bootstrap", { project: path })}>Bootstrap</a> makes more of them
            </>
          )}
        </p>
      )}
      {project?.showcase && (
        <section class="panel showcase">
          <header>
            <h2>What it learned</h2>
          </header>
          <a href={imageAddress(project.showcase)} target="_blank" rel="noopener">
            <Picture
              path={project.showcase}
              size={1600}
              alt="Above the training pictures; below, by epoch, what the model drew of each prompt"
              lazy={false}
            />
          </a>
        </section>
      )}
      <section class="panel">
        <header>
          <h2>Runs</h2>
        </header>
        {runs.data?.length ? (
          <RunTable runs={runs.data} project={path} />
        ) : runs.error !== undefined ? (
          <Failed error={runs.error} />
        ) : (
          runs.data && <NoRuns>No training yet. The plan on the Train page says beforehand what one would do.</NoRuns>
        )}
      </section>
      {project && project.lora_paths.length > 0 && (
        <section class="panel">
          <header>
            <h2>LoRA files</h2>
          </header>
          <ul class="body column">
            {project.lora_paths.map((file) => (
              <li key={file} class="mono cut">
                <a href={to("/api/lora", { path: file })} download={baseName(file)} title={`Save ${file}`}>
                  {baseName(file)}
                </a>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function QueuePanel() {
  const recent = ended.value.slice(0, 4);
  return (
    <section class="panel">
      <header>
        <h2>Queue</h2>
      </header>
      {jobs.value.length === 0 && (
        <p class="empty">
          Nothing runs. Trainings that you start wait here for their device, and go on when the studio is closed.
        </p>
      )}
      {running.value.length > 0 && <JobList jobs={running.value} label="Running" />}
      {waiting.value.length > 0 && <JobList jobs={waiting.value} label="Waiting; Alt and the arrows move one" />}
      {recent.length > 0 && <JobList jobs={recent} label="Ended" />}
    </section>
  );
}

function Computer() {
  const disk = useFetched((signal) => get("/api/disk", { signal }), [], ["jobs"]);
  const memory = useFetched((signal) => get("/api/memory", { signal }), [], ["jobs"]);
  const workspace = session.value?.workspace ?? "";
  return (
    <section class="panel">
      <header>
        <h2>This computer</h2>
      </header>
      <dl class="body gauges">
        {memory.data?.devices.map((card) => (
          <Gauge key={card.device} name={card.name} free={card.free} total={card.total} />
        ))}
        {memory.data && !memory.data.devices.length && (
          <div>
            <dt>Graphics card</dt>
            <dd class="soft">none that CUDA knows; training takes the processor</dd>
          </div>
        )}
        {memory.data && <Gauge name="Memory" free={memory.data.free} total={memory.data.total} />}
        {disk.data && <Gauge name="Disk" free={disk.data.free} total={disk.data.total} />}
      </dl>
      <div class="body">
        <CommandLine line={`lorasmith studio ${shellWord(workspace)}`} />
      </div>
    </section>
  );
}

function Gauge({ name, free, total }: { name: string; free: number; total: number }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="soft">
        <span class="number">
          {bytes(free)} of {bytes(total)} free
        </span>
        <meter min={0} max={total} value={total - free} aria-label={`${name}: in use`} />
      </dd>
    </div>
  );
}
