// Quotes and lists in one another, only so deep that browsers, screen readers and people can follow.

/** What is deeper than this is shown as text: a thousand `>` in a line would be a thousand elements in one another. */
export const DEEPEST = 40;

export interface MarkdownNode {
  type: string;
  value?: string;
  children?: MarkdownNode[];
}

/** A plugin of remark's: takes away what is too deep, and leaves its text. Nothing here calls itself. */
export function shallow() {
  return (root: MarkdownNode) => {
    const left = [{ node: root, depth: 0 }];
    for (let one = left.pop(); one; one = left.pop()) {
      const { node, depth } = one;
      if (!node.children) continue;
      if (depth === DEEPEST) node.children = [{ type: "text", value: textOf(node) }];
      else for (const child of node.children) left.push({ node: child, depth: depth + 1 });
    }
  };
}

function textOf(node: MarkdownNode): string {
  const texts: string[] = [];
  const left = [node];
  for (let one = left.pop(); one; one = left.pop()) {
    if (one.value !== undefined) texts.push(one.value);
    if (one.children) left.push(...[...one.children].reverse());
  }
  return texts.join(" ");
}
