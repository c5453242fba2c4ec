/** Of links to other places of the reference page their words are left. */
const withoutLinks = (text: string): string => text.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1");

/** A text of the library's, with what stands in backticks as code. */
export const Coded = ({ text }: { text: string }) => (
  <>
    {withoutLinks(text)
      .split("`")
      .map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part))}
  </>
);
