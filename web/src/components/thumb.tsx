// A thumbnail in a grid of thousands.
import { Component } from "preact";

/** Addresses of those that the browser has. */
const there = new Set<string>();

/** Whether it is shown at once, without asking the server. */
export const isThere = (address: string): boolean => there.has(address);

/** Give it its address as key: another picture is another element. */
export class Thumb extends Component<{ address: string }> {
  private image: HTMLImageElement | null = null;

  // Else what one has scrolled or filtered past is still loaded, before what one has come to.
  override componentWillUnmount() {
    if (this.image && !this.image.complete) this.image.removeAttribute("src");
  }

  override render({ address }: { address: string }) {
    return (
      <img
        ref={(element) => void (element && (this.image = element))}
        src={address}
        alt=""
        decoding="async"
        draggable={false}
        onLoad={() => there.add(address)}
      />
    );
  }
}
