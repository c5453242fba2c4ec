// Drawing with a base model and LoRAs: what to draw on the left; what comes of it, and all that was drawn, on the right.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, post, type Problem, problemsOf, type Schemas } from "../api/client";
import { concerns, onChange } from "../api/changes";
import { useFetched, useRested } from "../api/fetched";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { say, sayProblems } from "../components/notices";
import { Problems } from "../components/problems";
import { PromptBox } from "../components/prompt_box";
import { Tabs } from "../components/tabs";
import { completeTag } from "../components/tag_words";
import { TokenBar } from "../components/token_bar";
import { isImage, useFileDrop } from "../dropping";
import { quantity } from "../format";
import { useKeys } from "../keys";
import { project } from "../project";
import { alter, query } from "../router";
import { Begin } from "./draw_begin";
import { Sections } from "./draw_form";
import { History } from "./draw_history";
import { LoraCardGrid, UsedLoras } from "./draw_loras";
import { Now, useRecords } from "./draw_queue";
import {
  body,
  bring,
  cards,
  change,
  draw,
  form,
  hasWords,
  openOnes,
  refreshCards,
  settings,
  takeSettings,
  told,
} from "./draw_store";

/** ms. */
const BEFORE_LOADING = 1000;
const SHOWN = ["LoRAs", "Drawings"] as const;

export function DrawPage() {
  const options = useFetched((signal) => get("/api/draw/options", { signal }), []).data;
  useRecords();
  useEffect(() => {
    cards.value = null;
    void refreshCards();
    // A training writes LoRAs, a job may move them.
    return onChange((topics) => concerns(topics, "jobs", "projects") && void refreshCards().catch(() => {}));
  }, [project.value]);

  // The model is loaded while somebody writes.
  const model = settings.value.model;
  useEffect(() => {
    const load = () => post("/api/draw/warm-up", { body: body.value }).catch(() => {}); // What is wrong is said below.
    const timer = setTimeout(load, BEFORE_LOADING);
    return () => clearTimeout(timer);
  }, [model, project.value]);

  async function take(files: File[]) {
    const picture = files.find((file) => isImage(file.name));
    if (!picture) return say("Drop a picture of a web UI's, or one that was drawn here.");
    const path = await bring(picture);
    try {
      await takeSettings(path);
    } catch (error) {
      sayProblems(problemsOf(error));
      say("A drawing may still begin from it.", {
        label: "Begin from it",
        run: () => change({ init: path, mask: undefined }),
      });
    }
  }
  const drop = useFileDrop((dropped) => void take(dropped.map((each) => each.file)));
  const go = () => draw().catch((error: unknown) => void (wrong.value = problemsOf(error)));
  useKeys([
    { keys: "Ctrl+Enter", does: "Draw", run: () => void go() },
    {
      keys: "p",
      does: "To the prompt",
      run: () => document.querySelector<HTMLElement>(".prompt-box textarea")?.focus(),
    },
    { keys: "l", does: "Show the LoRAs", run: () => alter({ show: null }) },
    { keys: "d", does: "Show the drawings", run: () => alter({ show: "drawings" }) },
  ]);

  const shown = query.value.get("show") === "drawings" ? "Drawings" : "LoRAs";
  const waiting = openOnes.value.length;
  return (
    <main
      id="content"
      class={drop.over ? "draw over" : "draw"}
      {...drop.events}
      onKeyDown={(event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        void go();
      }}
    >
      <h1 class="unseen">Draw</h1>
      <section class="draw-form" aria-label="What to draw">
        <Prompts />
        <UsedLoras options={options} />
        <Sections options={options} begin={<Begin options={options} />} />
        {told.value.length > 0 && (
          <div class="problems warning">
            <ul>
              {told.value.map((each) => (
                <li>{each}</li>
              ))}
            </ul>
            <Button kind="quiet" onClick={() => (told.value = [])}>
              Put away
            </Button>
          </div>
        )}
        <Problems problems={wrong.value} />
        <div class="row draw-button">
          <Button kind="primary" onClick={go} disabled={!hasWords.value && !settings.value.loras.length}>
            Draw
          </Button>
          <span class="soft small">
            <kbd>Ctrl</kbd> <kbd>Enter</kbd>
            {waiting > 1 && `, ${waiting - 1} waiting`}
          </span>
          <span class="push">
            <AddFiles single accept="image/*" onFiles={(chosen) => void take(chosen.map((each) => each.file))}>
              {(choose) => <Button onClick={choose}>Settings of a picture</Button>}
            </AddFiles>
          </span>
        </div>
        <InTerminal />
      </section>
      <section class="draw-right" aria-label="What is drawn, and with what">
        <Now />
        <Tabs
          names={SHOWN}
          chosen={shown}
          label="LoRAs or drawings"
          controls="draw-shown"
          onChoose={(name) => alter({ show: name === "Drawings" ? "drawings" : null })}
        />
        <div id="draw-shown" role="tabpanel" aria-label={shown}>
          {shown === "LoRAs" ? <LoraCardGrid /> : <History />}
        </div>
      </section>
    </main>
  );
}

/** What is wrong with what is asked for. */
const wrong = signal<Problem[]>([]);

function Prompts() {
  const names = cards.value?.loras.map((card) => card.name) ?? [];
  const wildcards = async (prefix: string, signal: AbortSignal) => {
    const folder = settings.value.wildcard_dir ?? "";
    const found = await get("/api/draw/wildcards", { query: { prefix, folder }, signal });
    return found.map((name) => ({ text: name, note: "wildcard" }));
  };
  const counts = useTokens();
  return (
    <>
      <PromptBox
        label="Prompt"
        placeholder="What to draw"
        value={form.value.prompt}
        complete={completeTag}
        wildcards={wildcards}
        loras={names}
        rows={5}
        onInput={(prompt) => change({ prompt })}
      />
      <Tokens of="Prompt" counts={counts?.prompt} />
      <PromptBox
        label="Negative prompt"
        placeholder="What it shall not look like"
        value={form.value.negative ?? ""}
        complete={completeTag}
        wildcards={wildcards}
        loras={names}
        rows={2}
        onInput={(negative) => change({ negative: negative || undefined })}
      />
      {form.value.negative && <Tokens of="Negative prompt" counts={counts?.negative} />}
    </>
  );
}

/** Of both prompts, a while after the last key. */
function useTokens(): Schemas["TokenCounts"] | null {
  const [counts, setCounts] = useState<Schemas["TokenCounts"] | null>(null);
  const { prompt, negative, loras, lora_dir, embedding_dir } = form.value;
  const asked = JSON.stringify({
    prompt,
    negative,
    loras: loras.map(({ name }) => ({ name })),
    lora_dir,
    embedding_dir,
    project: project.value,
  });
  useRested([asked], (signal) => post("/api/draw/tokens", { body: JSON.parse(asked), signal }), setCounts);
  return counts;
}

function Tokens({ of, counts }: { of: string; counts: Schemas["PromptTokens"] | undefined }) {
  const tokens = counts?.tokens;
  if (!counts || tokens == null) return null;
  const limits = counts.limits!;
  const chunks = Math.max(1, Math.ceil(tokens / limits[0]!));
  const words = Object.entries(counts.embeddings ?? {}).map(
    ([name, vectors]) => `${name} is ${quantity(vectors, "vector")}`,
  );
  return (
    <div class="prompt-tokens small soft" role="group" aria-label={`${of}: tokens`}>
      <TokenBar tokens={tokens} limits={limits} free />
      <span>
        <span class="number">
          {tokens} of {chunks * limits[0]!}
        </span>{" "}
        tokens
        {chunks > 1 && `, read in ${chunks} parts`}
        {words.length > 0 && `; ${words.join(", ")}`}
      </span>
    </div>
  );
}

function InTerminal() {
  const [line, setLine] = useState("");
  useRested(
    [JSON.stringify(body.value)],
    (signal) => post("/api/draw/command-line", { body: body.value, signal }),
    (found) => (setLine(found.line), (wrong.value = [])),
    (error) => (wrong.value = problemsOf(error)),
  );
  return line ? <CommandLine line={line} /> : null;
}
