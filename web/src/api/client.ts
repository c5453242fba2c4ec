// The server's answers, typed by its own schema (schema.d.ts is generated from it).
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Problem = { where: string; what: string; hint: string };

/** What the server refused, in the library's words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly problems: Problem[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

type Method = "get" | "post" | "put" | "delete";
type Operation<P extends keyof paths, M extends Method> = paths[P] extends Record<M, infer O> ? O : never;
type PathsWith<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never;
}[keyof paths];

export type Answer<P extends keyof paths, M extends Method = "get"> =
  Operation<P, M> extends { responses: { 200: { content: { "application/json": infer Body } } } } ? Body : never;

type Query<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { parameters: { query?: infer Q } } ? NonNullable<Q> : never;
type InPath<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { parameters: { path: infer V } } ? V : never;
// What has a default may be left out, which the generated types don't say.
type Optional<Body> = Body extends object ? Partial<Body> : Body;
type RequestBody<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { requestBody: { content: { "application/json": infer Body } } } ? Optional<Body> : undefined;

type Given<P extends keyof paths, M extends Method> = {
  query?: [Query<P, M>] extends [never] ? undefined : Partial<Query<P, M>>;
  path?: [InPath<P, M>] extends [never] ? undefined : InPath<P, M>;
  body?: RequestBody<P, M>;
  signal?: AbortSignal;
};

async function call<P extends keyof paths, M extends Method>(
  method: M,
  path: P,
  given: Given<P, M>,
): Promise<Answer<P, M>> {
  const names = (given.path ?? {}) as Record<string, string | number>;
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(names[name])));
  const address = withQuery(filled, (given.query ?? {}) as Record<string, QueryValue>);
  const init: RequestInit = { method: method.toUpperCase(), signal: given.signal ?? null };
  if (given.body !== undefined) {
    init.body = JSON.stringify(given.body);
    init.headers = { "content-type": "application/json" };
  }
  return (await answered(address, init)) as Answer<P, M>;
}

export const get = <P extends PathsWith<"get">>(path: P, given: Given<P, "get"> = {}) => call("get", path, given);
export const post = <P extends PathsWith<"post">>(path: P, given: Given<P, "post"> = {}) => call("post", path, given);
export const put = <P extends PathsWith<"put">>(path: P, given: Given<P, "put"> = {}) => call("put", path, given);
export const remove = <P extends PathsWith<"delete">>(path: P, given: Given<P, "delete"> = {}) =>
  call("delete", path, given);

/** What is asked for before the code that needs it is there, by its address. */
const early = new Map<string, Promise<Response>>();

/** Asks now for what the first `get` of this address takes. */
export function askEarly(address: string): void {
  const asked = fetch(address);
  asked.catch(() => {}); // Who takes it says so.
  early.set(address, asked);
  // Later it would be old.
  setTimeout(() => early.delete(address), 10_000);
}

async function answered(address: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  const asked = init.method === "GET" ? early.get(address) : undefined;
  early.delete(address);
  try {
    response = await (asked ?? fetch(address, init));
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the studio does not answer; it may have been ended");
  }
  let body: unknown;
  try {
    body = await response.json();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    // It ended in the middle of its answer.
    if (response.ok) throw new ApiError(0, "the studio does not answer; it may have been ended");
  }
  if (response.ok) return body;
  throw refusal(response.status, body);
}

function refusal(status: number, body: unknown): ApiError {
  const told = (body ?? {}) as { detail?: unknown; problems?: Problem[] };
  const detail = typeof told.detail === "string" ? told.detail : `the studio answered with status ${status}`;
  return new ApiError(status, detail, told.problems ?? []);
}

type QueryValue = string | number | boolean | null | undefined;

/** An address with the values that are there. */
export function withQuery(path: string, values: Record<string, QueryValue>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : path;
}

/** Where an image's pixels are; with `v`, which changes with the file, they are kept for ever. */
export function imageAddress(path: string, size?: number, v?: string): string {
  return withQuery("/api/image", { path, size, v });
}

/** Fetches an image before it is asked for. */
export function fetchAhead(path: string, v?: string): void {
  new Image().src = imageAddress(path, undefined, v);
}

/** Sends a file as it is. `onProgress` is told the share that has gone, 0 to 1. */
export function upload(
  file: File,
  folder: string,
  name: string,
  onProgress: (share: number) => void = () => {},
  signal?: AbortSignal,
): Promise<Answer<"/api/files", "put">> {
  // fetch says nothing of how far an upload is.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", withQuery("/api/files", { folder, name }));
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(request.response as Answer<"/api/files", "put">);
      else reject(refusal(request.status, request.response));
    };
    request.onerror = () => reject(new ApiError(0, `${name} was not sent: the studio does not answer`));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** What to say of anything that was thrown. */
export function problemsOf(error: unknown): Problem[] {
  if (error instanceof ApiError && error.problems.length) return error.problems;
  return [{ where: "", what: error instanceof Error ? error.message : String(error), hint: "" }];
}
