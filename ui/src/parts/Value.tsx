// Data as text: pretty-printed, folded where it is long, fetched whole where it was cut, never more than a page can bear.

import { memo, useMemo, useState } from "react";
import { Button } from "react-aria-components";
import { get, part } from "../api/client";
import { isCut, type Json } from "../api/types";
import { bytes, plain } from "../shown";
import { t } from "../texts";
import { CopyButton } from "./basics";

/** Lines and characters that are shown before somebody asks for all. */
const LINES = 14;
const CHARACTERS = 1500;
/** Characters that are ever put into the page at once; a line of 5 MB would stop it. */
const MOST = 100_000;

/** Where a value is in the API: of which run, and at which place in it. */
export type Place = { sessionId: string; number: number; pointer: string };

export const Value = memo(function Value({ value, place }: { value: Json; place?: Place }) {
  const own = useMemo(() => written(value), [value]);
  const asked = JSON.stringify([place, own.cut]);
  const [whole, setWhole] = useState<{ asked: string; value: Json } | null>(null);
  const [loading, setLoading] = useState("");
  const [failed, setFailed] = useState("");
  const isLoading = loading === asked;
  const shown = whole?.asked === asked ? whole.value : value; // of another value in this place it says nothing
  const { text, cut } = useMemo(() => (shown === value ? own : written(shown)), [shown, value, own]);
  const isData = typeof shown !== "string" && !isCut(shown);
  if (cut.length === 0) return <Text text={text} isData={isData} />;
  const length = bytes(cut.reduce((sum, one) => sum + one.length, 0));
  const load = () => {
    if (place === undefined) return;
    setLoading(asked);
    setFailed("");
    get<Json>(`sessions/${part(place.sessionId)}/runs/${place.number}/value`, { pointer: place.pointer })
      .then(
        (found) => setWhole({ asked, value: found }),
        () => setFailed(asked),
      )
      .finally(() => setLoading((now) => (now === asked ? "" : now)));
  };
  return (
    <div className="cut">
      <Text text={text} isData={isData} />
      <p className="cut-note">
        … {length}{" "}
        {place === undefined ? null : (
          <Button className="link" onPress={load} isDisabled={isLoading}>
            {isLoading ? t.common.loading : t.common.loadWhole(length)}
          </Button>
        )}
        {failed === asked ? <span role="alert"> {t.trouble.failed}</span> : null}
      </p>
    </div>
  );
});

type Whole = { length: number; sha256: string };

/** A value as text, and what of it is only there as its beginning: all of it, or texts deep inside. */
export function written(value: Json): { text: string; cut: Whole[] } {
  const cut: Whole[] = [];
  const beginnings = (_: string, one: unknown) => {
    if (!isCut(one)) return one;
    const { head, ...whole } = one.$cut;
    cut.push(whole);
    return `${head}…`;
  };
  if (typeof value === "string") return { text: value, cut };
  if (isCut(value)) return { text: value.$cut.head, cut: [value.$cut] };
  return { text: JSON.stringify(value, beginnings, 2), cut };
}

function Text({ text, isData }: { text: string; isData: boolean }) {
  const [isOpen, setOpen] = useState(false);
  const [end, setEnd] = useState(MOST);
  const safe = useMemo(() => plain(text.slice(0, end)), [text, end]);
  const isLong = useMemo(() => safe.length > CHARACTERS || safe.split("\n", LINES + 1).length > LINES, [safe]);
  const shown = useMemo(
    () => (isLong && !isOpen ? safe.split("\n", LINES).join("\n").slice(0, CHARACTERS) : safe),
    [safe, isLong, isOpen],
  );
  return (
    <div className="value">
      <pre dir="ltr">{isData ? <Coloured text={shown} /> : shown}</pre>
      <div className="value-tools">
        {isLong ? (
          <Button className="link" onPress={() => setOpen(!isOpen)}>
            {isOpen ? t.common.showLess : `${t.common.showAll} (${t.unit.characters(text.length)})`}
          </Button>
        ) : null}
        {isOpen && text.length > end ? (
          <Button className="link" onPress={() => setEnd(end + MOST)}>
            {t.common.more}
          </Button>
        ) : null}
        <CopyButton text={() => text} />
      </div>
    </div>
  );
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/** JSON with its names, texts and numbers told apart. */
function Coloured({ text }: { text: string }) {
  const pieces = useMemo(() => {
    if (text.length > 20_000) return text;
    const found = [];
    let last = 0;
    for (const match of text.matchAll(TOKEN)) {
      if (match.index > last) found.push(text.slice(last, match.index));
      const kind =
        match[2] !== undefined ? "name" : match[1] !== undefined ? "text" : match[3] !== undefined ? "word" : "number";
      found.push(
        <span key={match.index} className={`json-${kind}`}>
          {match[1] ?? match[0]}
        </span>,
      );
      if (match[2] !== undefined) found.push(match[2]);
      last = match.index + match[0].length;
    }
    found.push(text.slice(last));
    return found;
  }, [text]);
  return <>{pieces}</>;
}
