// What the tour shows, step by step: the place, and what there is to say of it.
import type { Schemas } from "./api/client";
import { to } from "./router";

type Status = Schemas["ProjectStatus"];

interface TourStep {
  title: string;
  text: string;
  /** Where it is, in the demo. */
  address: (demo: Status) => string;
  /** What it is about, as a selector; of the first that is there. */
  about: readonly string[];
  /** Of the project, what there is to see here. */
  takes?: Schemas["Step"]["name"];
}

const pathOf = (demo: Status, name: Schemas["Step"]["name"]) => demo.steps.find((step) => step.name === name)?.path;

const dataset = (panel?: string) => (demo: Status) => to("/dataset", { path: demo.dataset, project: demo.path, panel });

export const TOUR: readonly TourStep[] = [
  {
    title: "From pictures to a LoRA",
    text: "The demo is a whole project: twelve pictures of a small creature, zorp, and a LoRA that learned it. In two minutes the tour goes through its pages, as one goes through them with pictures of one's own.",
    address: () => "/",
    about: ['.project-card:has(a[href$="demo"])', ".begin"],
  },
  {
    title: "Images",
    text: "All pictures of the dataset; on the left its tags. The line below the bar says how far the project is, and what comes next. Choose by clicks or keys, filter, sort, undo. Enter shows one large, with its crop and mask.",
    address: dataset(),
    about: [".image-grid"],
  },
  {
    title: "Captions",
    text: "What each picture is said to show. Choose a picture: its tags are chips here, with the tokens counted. The tab Tagger writes captions by a model, Edit changes many at once and shows it before.",
    address: dataset("Caption"),
    about: [".dataset-side"],
  },
  {
    title: "Findings",
    text: "lorasmith looks at every picture and caption once and says what would cost quality: copies, blur, tags that contradict each other. Most of it is mended by a button, after it has shown how.",
    address: dataset("Findings"),
    about: [".dataset-side"],
  },
  {
    title: "Settings and plan",
    text: "Everything is chosen for these pictures and this base, and says why; change what you like. The plan goes with it: steps, memory, time, and what would not run. The button above it begins.",
    address: (demo) => to("/train", { project: demo.path }),
    about: ["#plan"],
  },
  {
    title: "Curves and samples",
    text: "A training as it goes. The smoothed loss should fall and level out; the samples below tell more: a row for each time, a column for each prompt. You can stop, pause or ask for samples here.",
    address: (demo) => to("/run", { path: pathOf(demo, "run"), project: demo.path }),
    about: [".run-parts .wide > .panel"],
    takes: "run",
  },
  {
    title: "Which epoch is best?",
    text: "A grid of epochs by strengths shows it at a glance, and a blind vote tells what you really like better. “Pick the best snapshot” on the run's page measures likeness and what the base still can.",
    address: (demo) => to("/compare", { run: pathOf(demo, "run"), project: demo.path }),
    about: [".compare-side"],
    takes: "run",
  },
  {
    title: "Draw",
    text: "Pictures with the LoRA: a click on its card adds it with its words. The prompt knows the web UI's syntax and completes tags; Ctrl and Enter draws.",
    address: (demo) => to("/draw", { project: demo.path }),
    about: [".draw-form"],
    takes: "files",
  },
  {
    title: "The file",
    text: "The LoRA itself, for A1111, ComfyUI and others: download it, copy it into a web UI's folder, make it smaller, weigh its blocks. That is the whole way; now take pictures of your own.",
    address: (demo) => to("/files", { project: demo.path, lora: pathOf(demo, "files") }),
    about: [".files-side"],
    takes: "files",
  },
];
