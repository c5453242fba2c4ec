// What the parts of the Compare page have in common: cells by their places, and how they are called.
import type { Schemas } from "../api/client";

export type Grid = Schemas["GridDetail"];
export type GridCell = Schemas["GridCell"];
export type Place = readonly [number, number, number];

export const keyOf = (place: Place): string => place.join(".");

export function placeOf(key: string): Place | null {
  const numbers = key.split(".").map(Number);
  return numbers.length === 3 && numbers.every((each) => Number.isInteger(each) && each >= 0)
    ? [numbers[0]!, numbers[1]!, numbers[2]!]
    : null;
}

export const samePlace = (one: Place, other: Place): boolean => keyOf(one) === keyOf(other);

/** An axis and one of its values, as one says them: "epoch 4", "LoRA strength 0.8". */
export function told(axis: { title: string }, value: string): string {
  const begins = value.toLowerCase().startsWith(axis.title.toLowerCase());
  return begins || value.length > 40 ? value : `${axis.title} ${value}`;
}

/** What a cell is, along all axes. */
export const wordsOf = (grid: Grid, place: Place): string =>
  grid.axes.map((axis, number) => told(axis, axis.values[place[number]!] ?? "")).join(", ");

export const sizeOf = (grid: Grid, axis: number): number => grid.axes[axis]?.values.length ?? 1;
