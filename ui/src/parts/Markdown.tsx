// Text of models and users. It never becomes active: no HTML, no images of other hosts, links only to the web.

import { memo } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { plain } from "../shown";
import { t } from "../texts";
import { shallow } from "./depth";
import { Icon } from "./Icon";

const heading = (level: number) =>
  // biome-ignore lint/correctness/noComponentHookFactories: called when the module is loaded, once for each level
  function Heading({ children }: { children?: React.ReactNode }) {
    return <p className={`md-heading md-${level}`}>{children}</p>; // the page's own headings stay its outline
  };

const components: Components = {
  a: ({ href, children }) => <Outside href={href ?? ""}>{children}</Outside>,
  img: ({ src, alt }) => <ImageElsewhere url={typeof src === "string" ? src : ""} alt={alt ?? ""} />,
  h1: heading(1),
  h2: heading(2),
  h3: heading(3),
  h4: heading(4),
  h5: heading(4),
  h6: heading(4),
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
    <div className="table-scroll" tabIndex={0} role="group">
      <table>{children}</table>
    </div>
  ),
  // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
  pre: ({ children }) => <pre tabIndex={0}>{children}</pre>,
  input: ({ checked }) => <span aria-hidden="true">{checked ? "☑ " : "☐ "}</span>,
};

const plugins = [[remarkGfm, { singleTilde: false }], shallow] as never;

/** Only these lead anywhere; `javascript:` and others are text. */
const SAFE = /^(https?:|mailto:)/i;

export function Outside({ href, children }: { href: string; children?: React.ReactNode }) {
  if (!SAFE.test(href)) return <span className="dead-link">{children}</span>;
  return (
    <a href={href} target="_blank" rel="noreferrer noopener" title={plain(href)}>
      {children}
    </a>
  );
}

/** An image that would be asked for at another host, which would learn who reads this: only named. */
export function ImageElsewhere({ url, alt }: { url: string; alt: string }) {
  const name = alt || t.run.image;
  return (
    <span className="image-elsewhere" title={plain(url)}>
      <Icon name="link" /> {name} ·{" "}
      {SAFE.test(url) ? <Outside href={url}>{t.run.imageElsewhere}</Outside> : t.run.imageElsewhere}
    </span>
  );
}

const urlTransform = (url: string) => (SAFE.test(url) ? url : "");

const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div className="markdown" dir="auto">
      <ReactMarkdown remarkPlugins={plugins} components={components} urlTransform={urlTransform}>
        {text}
      </ReactMarkdown>
    </div>
  );
});

export default Markdown;
