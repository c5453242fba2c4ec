// The sizes that training brings the pictures to, and how many come into each.
import { useState } from "preact/hooks";
import { get } from "../api/client";
import { useFetched } from "../api/fetched";
import { Failed } from "../components/problems";
import { ResolutionChoice, useResolution } from "../components/resolution_choice";
import { quantity } from "../format";
import type { DatasetStore } from "./dataset_store";

export function BucketsPanel({ store }: { store: DatasetStore }) {
  const [resolution, setResolution] = useResolution();
  const [upscale, setUpscale] = useState(true);
  const query = { path: store.path, width: resolution, height: resolution, upscale };
  const found = useFetched(
    (signal) => get("/api/dataset/buckets", { query, signal }),
    [resolution, upscale, store.changes.value],
  );
  const data = found.data;
  const most = Math.max(1, ...(data?.counts ?? []));
  const names = store.names.value;
  const show = (title: string, takes: (place: number) => boolean) => {
    store.subset.value = { title, names: names.filter((_, place) => takes(place)) };
    store.select([]);
  };
  const enlarged = data?.scales.filter((scale) => scale > 1).length ?? 0;
  const unread = data?.of.filter((bucket) => bucket < 0).length ?? 0;
  return (
    <div class="panel-body">
      <div class="row wrap">
        <ResolutionChoice value={resolution} onChange={setResolution} />
        <label class="row">
          <input type="checkbox" checked={upscale} onChange={(event) => setUpscale(event.currentTarget.checked)} />
          Small pictures are enlarged
        </label>
      </div>
      {found.error !== undefined && <Failed error={found.error} />}
      {data && (
        <>
          <p class="soft small">
            {quantity(data.sizes.length, "bucket")}. A bucket with fewer pictures than a batch makes smaller batches; a
            click shows its pictures.
          </p>
          <ul class="buckets" aria-label="Buckets">
            {data.sizes.map((size, number) => (
              <li key={size.join("×")}>
                <button
                  type="button"
                  onClick={() => show(`bucket ${size.join("×")}`, (place) => data.of[place] === number)}
                >
                  <span class="shape" style={{ aspectRatio: `${size[0]} / ${size[1]}` }} />
                  <span class="number">{size.join("×")}</span>
                  <span class="fullness">
                    <span style={{ width: `${(100 * data.counts[number]!) / most}%` }} />
                  </span>
                  <span class="number">{data.counts[number]}</span>
                </button>
              </li>
            ))}
          </ul>
          {enlarged > 0 && (
            <button
              type="button"
              class="link"
              onClick={() => show("enlarged", (place) => (data.scales[place] ?? 0) > 1)}
            >
              {quantity(enlarged, "picture")} smaller than their bucket, and enlarged
            </button>
          )}
          {unread > 0 && (
            <button type="button" class="link" onClick={() => show("unreadable", (place) => data.of[place]! < 0)}>
              {quantity(unread, "picture")} that cannot be read
            </button>
          )}
        </>
      )}
    </div>
  );
}
