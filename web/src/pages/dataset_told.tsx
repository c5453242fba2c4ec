// What a tagger says of one picture, at once: tags with their scores, to be clicked into its caption.
import { useEffect, useState } from "preact/hooks";
import { post, type Schemas } from "../api/client";
import { useRested } from "../api/fetched";
import { Button } from "../components/button";
import { Failed } from "../components/problems";
import { percent } from "../format";
import { useKeys } from "../keys";
import { remembered } from "../session";
import type { DatasetStore } from "./dataset_store";

type Told = Schemas["TaggedPicture"];

const MOST = 40;
const LEAST = 0.15;

interface Props {
  store: DatasetStore;
  name: string;
  tagger: string;
}

export function ToldTags({ store, name, tagger }: Props) {
  const [told, setTold] = useState<Told | null>(null);
  const [tags, setTags] = useState<string[]>([]);
  const [error, setError] = useState<unknown>();
  const query = { path: store.path };

  useEffect(() => (setTold(null), setError(undefined)), [name, tagger]);
  // One who goes past pictures asks for none of them.
  useRested(
    [name, tagger],
    (signal) => post("/api/dataset/tag-one", { query, body: { name, tagger, least: LEAST }, signal }),
    setTold,
    setError,
  );
  useEffect(() => {
    const controller = new AbortController();
    store.caption(name, controller.signal).then(
      (caption) => setTags(caption.tags),
      () => {},
    );
    return () => controller.abort();
  }, [name, store.changes.value]);

  async function turn(tag: string) {
    const caption = await store.caption(name);
    const rest = caption.tags.filter((each) => each !== tag);
    const next = rest.length < caption.tags.length ? rest : [...rest, tag];
    const written = await store.writeCaption(name, caption.text, next.join(", "));
    setTags(written.tags);
  }

  if (error !== undefined) return <Failed error={error} />;
  if (!told) return <p class="soft small">{tagger} looks at the picture</p>;
  const scores = told.scores.filter((each) => each.category !== "rating").slice(0, MOST);
  return (
    <div class="row wrap" role="group" aria-label={`What ${told.tagger} says of ${name}`}>
      {scores.map(({ tag, score }) => (
        <Button key={tag} aria-pressed={tags.includes(tag)} onClick={() => turn(tag)}>
          {tag} <span class="number soft">{percent(score)}</span>
        </Button>
      ))}
      {!scores.length && <span class="soft small">It says nothing with a score of {percent(LEAST)} or more.</span>}
    </div>
  );
}

/** Which tagger is asked of single pictures: the one that was chosen, or that has looked at the others; "" for none. */
export const knownTagger = (kept: string): string => remembered("tagger") || kept;

/** A key, and whether it shows what the tagger says. */
export function useTold(): [boolean, () => void] {
  const [shows, setShows] = useState(false);
  const turn = () => setShows(!shows);
  useKeys([{ keys: "g", does: "Picture: what the tagger says of it", run: turn }]);
  return [shows, turn];
}
