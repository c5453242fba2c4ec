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
  return (
    <img
      class={name}
      src={imageAddress(path, size, v)}
      alt={alt}
      loading={lazy ? "lazy" : "eager"}
      decoding="async"
      draggable={false}
    />
  );
}
