// How likeness and diversity go from round to round, what stuck out, and the set that came of it.
import { Picture } from "../components/picture";
import { percent, quantity } from "../format";
import { alter } from "../router";
import type { Round, Shown } from "./bootstrap_one";

export function Rounds({ one, shown }: { one: Shown; shown: number }) {
  const rounds = one.history.filter((each) => each.steps > 0);
  if (!rounds.length) return null;
  const measured = rounds.filter((each) => each.likeness != null);
  const newest = one.history.at(-1)!.number;
  return (
    <section class="boot-part column" aria-label="Rounds">
      <h2>Rounds</h2>
      <table class="boot-rounds">
        <thead>
          <tr>
            <th scope="col">round</th>
            <th scope="col">pictures</th>
            <th scope="col">steps</th>
            <th scope="col" class="measure likeness">
              likeness
            </th>
            <th scope="col" class="measure diversity">
              diversity
            </th>
            <th scope="col">kept</th>
          </tr>
        </thead>
        <tbody>
          {rounds.map((each) => (
            <tr key={each.number} class={each.number === shown ? "shown" : ""}>
              <th scope="row">
                <button
                  type="button"
                  class="link"
                  aria-current={each.number === shown ? "true" : undefined}
                  aria-label={`Round ${each.number}: its drawings`}
                  onClick={() =>
                    alter({ round: each.number === newest ? null : each.number, drawing: null }, { replace: false })
                  }
                >
                  {each.number}
                </button>
              </th>
              <td>{each.images}</td>
              <td>{each.steps}</td>
              <td>{share(each.likeness)}</td>
              <td>{share(each.diversity)}</td>
              <td>{keptWords(each)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {measured.length > 1 && <Chart rounds={measured} />}
      <details class="small soft">
        <summary>What these are</summary>
        <p>
          Likeness: 0 % is the base model, 100 % as like as the given pictures are to each other. Diversity: how far
          drawings are from each other, as a share of the base model's.
        </p>
      </details>
      <Notes rounds={rounds} />
    </section>
  );
}

const share = (value: number | null): string => (value === null ? "" : percent(value));

const keptWords = (round: Round): string =>
  round.kept === null ? "" : `${round.kept.length}${round.gone.length ? `, ${round.gone.length} out` : ""}`;

/** What stuck out and what left the set, round by round. */
function Notes({ rounds }: { rounds: readonly Round[] }) {
  const notes = rounds.flatMap((each) => each.notes.map((text) => ({ number: each.number, text })));
  if (!notes.length) return null;
  return (
    <ul class="problems warning small" aria-label="What stuck out">
      {notes.map(({ number, text }) => (
        <li>
          <b>Round {number}:</b> {text}.
        </li>
      ))}
    </ul>
  );
}

const WIDTH = 300;
const HEIGHT = 84;
const LEFT = 44;
const EDGE = 8;

/** Both measures from 0 % to 100 %; below that where a round is so. */
function Chart({ rounds }: { rounds: readonly Round[] }) {
  const values = rounds.flatMap((each) => [each.likeness ?? 0, each.diversity ?? 0]);
  const low = Math.min(0, ...values);
  const high = Math.max(1, ...values);
  const x = (place: number) => LEFT + ((WIDTH - LEFT - EDGE) * place) / (rounds.length - 1);
  const y = (value: number) => EDGE + ((HEIGHT - 2 * EDGE) * (high - value)) / (high - low);
  const words = rounds.map(
    (each) => `round ${each.number}: likeness ${share(each.likeness)}, diversity ${share(each.diversity)}`,
  );
  return (
    <svg class="boot-chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words.join("; ")}>
      {[0, 0.5, 1].map((value) => (
        <g key={value}>
          <line class="rule" x1={LEFT} x2={WIDTH - EDGE} y1={y(value)} y2={y(value)} />
          <text x={LEFT - 6} y={y(value) + 4} text-anchor="end">
            {percent(value)}
          </text>
        </g>
      ))}
      {(["likeness", "diversity"] as const).map((name) => (
        <g key={name} class={name}>
          <polyline points={rounds.map((each, place) => `${x(place)},${y(each[name] ?? 0)}`).join(" ")} />
          {rounds.map((each, place) => (
            <circle key={each.number} cx={x(place)} cy={y(each[name] ?? 0)} r={3} />
          ))}
        </g>
      ))}
    </svg>
  );
}

/** The pictures that the next training sees: given ones, then drawings with their lineage. */
export function TheSet({ one }: { one: Shown }) {
  return (
    <section class="boot-part column" aria-label="The set">
      <header class="row">
        <h2>The set</h2>
        <span class="soft small number">
          {quantity(one.given, "picture")} given, {quantity(one.drawn, "drawing")}
        </span>
      </header>
      <ul class="boot-set">
        {one.images.map((each) => (
          <li key={each.path} title={`${each.name}\n${each.caption}`}>
            <Picture path={each.path} v={each.version} size={192} alt={`${each.name}: ${each.caption}`} />
            <span class={each.repeated ? "small boot-out" : "small soft"}>
              {each.repeated
                ? `sticks out, ${each.repeated}×`
                : each.round
                  ? `round ${each.round}, ${each.drawing}`
                  : "given"}
            </span>
          </li>
        ))}
      </ul>
      <p class="soft small">
        A given picture is shown {one.weight > 0 && `${Math.round(1 / one.weight)} times`} as often as a drawing.
      </p>
    </section>
  );
}
