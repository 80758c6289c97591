import { useEffect, useState } from "react";
import { Input, Label, TextField } from "react-aria-components";
import type { Run } from "../../api/types";
import { IconButton } from "../../parts/basics";
import { t } from "../../texts";

/** Which run one reads, of how many; another is a number, or a pull, away. */
export function Scrubber(props: {
  tip: number;
  runs: readonly Run[];
  box: React.RefObject<HTMLDivElement | null>;
  /** The run that the address names. */
  at: number | null;
  onGo: (number: number | null) => void;
}) {
  const { tip, runs, box, at, onGo } = props;
  const read = useRead(box, runs, at);
  const [typed, setTyped] = useState<string | null>(null);
  const [pulled, setPulled] = useState<number | null>(null);
  const go = (number: number) => onGo(Math.max(1, Math.min(tip, number)));
  const commit = () => {
    const number = Number(typed);
    setTyped(null);
    if (typed !== null && Number.isInteger(number) && number > 0) go(number);
  };
  return (
    <div className="scrubber">
      <IconButton icon="up" label={t.session.first} onPress={() => go(1)} />
      <input
        type="range"
        min={1}
        max={tip}
        value={pulled ?? read}
        aria-label={t.session.goTo}
        onChange={(event) => setPulled(Number(event.target.value))}
        onPointerUp={() => {
          if (pulled !== null) go(pulled);
          setPulled(null);
        }}
        onKeyUp={() => {
          if (pulled !== null) go(pulled);
          setPulled(null);
        }}
      />
      <TextField
        className="go-to"
        value={typed ?? String(pulled ?? read)}
        onChange={setTyped}
        aria-label={t.session.goTo}
      >
        <Label className="hidden">{t.session.goTo}</Label>
        <Input inputMode="numeric" onKeyDown={(event) => event.key === "Enter" && commit()} onBlur={commit} />
      </TextField>
      <span className="muted number">{t.session.of(tip)}</span>
      <IconButton icon="down" label={t.session.last} onPress={() => onGo(null)} />
    </div>
  );
}

/** The number of the run at the top of what is seen; at the end, where nothing can come to the top: the one asked for. */
function useRead(box: React.RefObject<HTMLDivElement | null>, runs: readonly Run[], at: number | null): number {
  const [read, setRead] = useState(runs.at(-1)?.number ?? 1);
  // biome-ignore lint/correctness/useExhaustiveDependencies: other runs, other places
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    let frame = 0;
    const look = () => {
      frame = 0;
      const { top, bottom } = element.getBoundingClientRect();
      const asked = at === null ? null : element.querySelector(`#run-${at}`);
      const place = asked?.getBoundingClientRect();
      if (element.scrollTop + element.clientHeight >= element.scrollHeight - 2) {
        const isSeen = place !== undefined && place.top >= top && place.top < bottom;
        setRead(isSeen && at !== null ? at : (runs.at(-1)?.number ?? 1));
        return;
      }
      const edge = top + 60;
      for (const card of element.querySelectorAll<HTMLElement>(".run")) {
        if (card.getBoundingClientRect().bottom > edge) {
          setRead(Number(card.dataset.number));
          return;
        }
      }
    };
    const onScroll = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      cancelAnimationFrame(frame);
      element.removeEventListener("scroll", onScroll);
    };
  }, [runs, at]);
  return read;
}
