import { useEffect, useState } from "preact/hooks";
import { imageAddress } from "../api/client";

interface Props {
  path: string;
  /** px of the longer side; the whole image without it. */
  size?: number;
  /** Changes with the file, so that it may be kept for ever. */
  v?: string | undefined;
  /** What it shows; "" where words beside it say so. */
  alt: string;
  class?: string;
  lazy?: boolean;
}

export function Picture({ path, size, v, alt, class: name, lazy = true }: Props) {
  const address = imageAddress(path, size, v);
  const [torn, setTorn] = useState(false);
  useEffect(() => setTorn(false), [address]);
  if (torn)
    return (
      <span class={`torn ${name ?? ""}`} role="img" aria-label={alt || "A picture that cannot be shown"}>
        cannot be shown
      </span>
    );
  return (
    <img
      class={name}
      src={address}
      onError={() => setTorn(true)}
      alt={alt}
      loading={lazy ? "lazy" : "eager"}
      decoding="async"
      draggable={false}
    />
  );
}
