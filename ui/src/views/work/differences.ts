// Two texts, word by word: what both have, and what only one has.

export type Piece = { text: string; side: "both" | "left" | "right" };

/** Words beyond which the texts are only shown beside each other: the comparison takes their product. */
export const MOST_WORDS = 1500;

/** The share of both texts that must be the same, or each is shown as a whole. */
export const LEAST_ALIKE = 0.35;

export function differences(left: string, right: string): Piece[] | null {
  const a = words(left);
  const b = words(right);
  let begin = 0;
  while (begin < a.length && begin < b.length && a[begin] === b[begin]) begin += 1;
  let end = 0;
  while (end < a.length - begin && end < b.length - begin && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const middle = between(a.slice(begin, a.length - end), b.slice(begin, b.length - end));
  if (middle === null) return null;
  const found = joined([
    { text: a.slice(0, begin).join(""), side: "both" },
    ...middle,
    { text: a.slice(a.length - end).join(""), side: "both" },
  ]);
  return isAlike(found)
    ? found
    : [
        { text: `${left}\n`, side: "left" },
        { text: right, side: "right" },
      ];
}

/** Of texts that have little in common, a few words that happen to be the same tell nothing. */
function isAlike(pieces: readonly Piece[]): boolean {
  const length = (side: Piece["side"]) =>
    pieces.reduce((sum, one) => sum + (one.side === side ? one.text.replace(/\s+/g, "").length : 0), 0);
  const [both, left, right] = [length("both"), length("left"), length("right")];
  return 2 * both >= LEAST_ALIKE * (2 * both + left + right);
}

const words = (text: string) => text.match(/\s+|[^\s\p{P}]+|\p{P}/gu) ?? [];

/** The longest common subsequence, by the table of its lengths. */
function between(a: string[], b: string[]): Piece[] | null {
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        a[i] === b[j]
          ? (lengths[(i + 1) * width + j + 1] as number) + 1
          : Math.max(lengths[(i + 1) * width + j] as number, lengths[i * width + j + 1] as number);
    }
  }
  const pieces: Piece[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      pieces.push({ text: a[i] as string, side: "both" });
      i += 1;
      j += 1;
    } else if (
      j >= b.length ||
      (i < a.length && (lengths[(i + 1) * width + j] as number) >= (lengths[i * width + j + 1] as number))
    ) {
      pieces.push({ text: a[i] as string, side: "left" });
      i += 1;
    } else {
      pieces.push({ text: b[j] as string, side: "right" });
      j += 1;
    }
  }
  return pieces;
}

function joined(pieces: Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if (piece.text === "") continue;
    if (last?.side === piece.side) last.text += piece.text;
    else result.push({ ...piece });
  }
  return result;
}
