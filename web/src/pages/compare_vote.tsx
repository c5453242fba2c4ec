// Two drawings, and nothing that says what they are: which is better?
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchAhead, imageAddress, post, problemsOf, type Schemas } from "../api/client";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { sayProblems } from "../components/notices";
import { percent } from "../format";
import { useDialogKeys } from "../keys";
import { JUDGED } from "../runs";
import type { Grid } from "./compare_shared";

type Votes = Schemas["VotesRecord"];
type Pair = Schemas["VotePair"];
type Answer = Schemas["NewVote"]["answer"];

interface Props {
  grid: Grid;
  votes: Votes;
  /** What the votes say now. */
  onVotes: (votes: Votes) => void;
  onAgain: () => void;
  onClose: () => void;
}

const idOf = (pair: Pair): string => `${pair.left.path}\n${pair.right.path}`;

export function Vote({ grid, votes, onVotes, onAgain, onClose }: Props) {
  /** Those that were answered here, the last at the end: they can be taken back. */
  const [answered, setAnswered] = useState<readonly Pair[]>([]);
  /** Those that were answered here: what comes next is known before the answers have arrived, and to the next key at once. */
  const sent = useSignal<readonly string[]>([]);
  const line = useRef<Promise<unknown>>(Promise.resolve());
  const stage = useRef<HTMLDivElement>(null);
  const isOpen = (pair: Pair) => !sent.value.includes(idOf(pair));
  const open = votes.next.filter(isOpen);
  const pair = open[0];
  const done = votes.done + votes.next.length - open.length;

  useEffect(() => {
    for (const each of open.slice(1, 4))
      for (const side of [each.left, each.right]) fetchAhead(side.path, side.version);
  }, [pair && idOf(pair)]);

  function send(of: Pair, answer: Answer) {
    const body = { path: grid.path, by: votes.by, seed: votes.seed, left: of.left, right: of.right, answer };
    // One after the other: what is taken back was cast before.
    line.current = line.current.then(async () => {
      const forget = () => (sent.value = sent.value.filter((each) => each !== idOf(of)));
      try {
        const told = await post("/api/grids/votes", { body });
        if (answer === null) forget();
        onVotes(told);
      } catch (error) {
        setAnswered((before) => before.filter((each) => idOf(each) !== idOf(of)));
        forget();
        sayProblems(problemsOf(error));
      }
    });
    // A button that was clicked would take the next key.
    stage.current?.focus();
  }
  function say(answer: Answer) {
    const next = votes.next.find(isOpen);
    if (!next) return;
    sent.value = [...sent.value, idOf(next)];
    setAnswered((before) => [...before, next]);
    send(next, answer);
  }
  function takeBack() {
    const last = answered.at(-1);
    if (!last) return;
    setAnswered(answered.slice(0, -1));
    send(last, null);
  }
  useDialogKeys([
    { keys: "ArrowLeft", does: "Vote: the left one is better", run: () => say("left") },
    { keys: "ArrowRight", does: "Vote: the right one is better", run: () => say("right") },
    { keys: "ArrowDown", does: "Vote: neither is better", run: () => say("equal") },
    { keys: " ", does: "Vote: neither is better", run: () => say("equal") },
    { keys: "Backspace", does: "Vote: take the last one back", run: takeBack },
  ]);
  const waits = !pair && done < votes.total;
  return (
    <Dialog
      title="Which is better?"
      kind="full"
      onClose={onClose}
      aside={
        <>
          <span class="soft cut grows" title={pair?.prompt}>
            {pair && [pair.prompt, ...pair.held].filter(Boolean).join(" · ")}
          </span>
          <span class="number one-line" role="status">
            {done} of {votes.total}
          </span>
        </>
      }
      footer={
        pair && (
          <div class="vote-answers">
            <Button onClick={() => say("left")}>
              <kbd>←</kbd> Left
            </Button>
            <Button onClick={() => say("equal")}>
              <kbd>↓</kbd> Equal
            </Button>
            <Button onClick={() => say("right")}>
              Right <kbd>→</kbd>
            </Button>
            <Button kind="quiet" icon="undo" disabled={!answered.length} onClick={takeBack}>
              Take back <kbd>⌫</kbd>
            </Button>
          </div>
        )
      }
    >
      <progress class="progress" max={Math.max(1, votes.total)} value={done} aria-label="Pairs that have a vote" />
      <div class="beside vote" ref={stage} tabIndex={-1} autofocus>
        {pair ? (
          [pair.left, pair.right].map((side, number) => (
            <figure key={number}>
              <div class="beside-view" onClick={() => say(number === 0 ? "left" : "right")}>
                <img
                  key={side.path}
                  class={grid.width <= 256 ? "by-pixels" : ""}
                  src={imageAddress(side.path, undefined, side.version)}
                  alt={number === 0 ? "The left one" : "The right one"}
                  draggable={false}
                />
              </div>
            </figure>
          ))
        ) : (
          <div class="empty">
            {waits ? (
              <p role="status">The votes are being written …</p>
            ) : votes.total ? (
              <>
                <h3>Every pair has a vote</h3>
                <p>{votes.summary}.</p>
                <div class="row wrap">
                  <Button kind="primary" onClick={onClose}>
                    Show the tally
                  </Button>
                  <Button onClick={onAgain}>Once more, in another order</Button>
                </div>
              </>
            ) : (
              <p>
                There are no two pictures to compare yet: each needs another one that differs in {votes.by.join(" or ")}{" "}
                alone.
              </p>
            )}
          </div>
        )}
      </div>
    </Dialog>
  );
}

/** What the votes say, and beside it what pick says. */
export function TallyTable({ votes }: { votes: Votes }) {
  const hasPick = votes.standings.some((each) => each.judged);
  return (
    <div class="scrolls">
      <table class="tally lines">
        <thead>
          <tr>
            <th scope="col">{votes.by.join(", ")}</th>
            <th scope="col" class="right" title="Won">
              won
            </th>
            <th scope="col" class="right">
              equal
            </th>
            <th scope="col" class="right">
              lost
            </th>
            <th scope="col">share</th>
            {hasPick && <th scope="col">pick</th>}
          </tr>
        </thead>
        <tbody>
          {votes.standings.map((one, number) => (
            <tr key={one.item.join("\n")} class={number === votes.leader ? "leads" : ""}>
              <th scope="row">{one.item.join(", ")}</th>
              <td class="right number">{one.wins}</td>
              <td class="right number">{one.ties}</td>
              <td class="right number">{one.losses}</td>
              <td>
                {one.share === null ? (
                  <span class="soft">–</span>
                ) : (
                  <span class="share" title={`between ${percent(one.low)} and ${percent(one.high)}, at 95 %`}>
                    <span class="share-line" aria-hidden="true">
                      <i style={{ left: percentOf(one.low), width: percentOf(one.high - one.low) }} />
                      <b style={{ left: percentOf(one.share) }} />
                    </span>
                    <span class="number">{percent(one.share)}</span>
                  </span>
                )}
              </td>
              {hasPick && (
                <td class="one-line">
                  {one.picked ? <span class="tag running">keep</span> : <span class="soft">{JUDGED[one.judged]}</span>}
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const percentOf = (share: number): string => `${(100 * share).toFixed(1)}%`;
