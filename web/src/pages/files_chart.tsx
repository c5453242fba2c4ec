// Bars by block: how much of something each has, and at which ranks.

interface BlockRow {
  block: string;
  /** 0 to 1; what the bar is long by. */
  share: number;
  text: string;
  ranks: string;
}

const LINE = 18;
const FIELD = 180;

/** A table whose bars are drawn: who hears the page gets the numbers. A bar of `whole` fills its field; the longest without. */
export function BlockChart({ name, rows, whole }: { name: string; rows: readonly BlockRow[]; whole?: number }) {
  const most = whole ?? Math.max(...rows.map((each) => each.share), 1e-9);
  return (
    <table class="block-chart">
      <thead>
        <tr>
          <th scope="col">Block</th>
          <th scope="col" colSpan={2}>
            {name}
          </th>
          <th scope="col" class="right number">
            Rank
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((each) => (
          <tr key={each.block}>
            <th scope="row" class="mono">
              {each.block}
            </th>
            <td>
              <svg width={FIELD} height={LINE} viewBox={`0 0 ${FIELD} ${LINE}`} aria-hidden="true">
                <rect class="bar-ground" x="0" y="4" width={FIELD} height={LINE - 8} rx="2" />
                <rect
                  class="bar-share"
                  x="0"
                  y="4"
                  width={Math.max(1, (FIELD * each.share) / most)}
                  height={LINE - 8}
                  rx="2"
                />
              </svg>
            </td>
            <td class="right number">{each.text}</td>
            <td class="right number">{each.ranks}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
