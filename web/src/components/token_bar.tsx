// How much of 75, 150 and 225 tokens a text takes.

interface Props {
  tokens: number;
  limits: readonly number[];
  /** More than the first limit is nothing bad. */
  free?: boolean;
}

export const limitOf = (tokens: number, limits: readonly number[]): number | undefined =>
  limits.find((limit) => tokens <= limit);

export function TokenBar({ tokens, limits, free }: Props) {
  const end = Math.max(limitOf(tokens, limits) ?? tokens, limits[0]!);
  return (
    <div class="bar-of-tokens" aria-hidden="true">
      <span
        class={!free && tokens > limits[0]! ? "used beyond" : "used"}
        style={{ width: `${(100 * tokens) / end}%` }}
      />
      {limits
        .filter((limit) => limit <= end)
        .map((limit) => (
          <span key={limit} class="mark-of-tokens" style={{ left: `${(100 * limit) / end}%` }} />
        ))}
    </div>
  );
}
