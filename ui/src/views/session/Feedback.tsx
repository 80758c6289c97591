import { useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import {
  Button,
  Dialog,
  DialogTrigger,
  Input,
  Label,
  Popover,
  TextArea,
  TextField,
  Tooltip,
  TooltipTrigger,
} from "react-aria-components";
import { part, send } from "../../api/client";
import type { Rating, Run } from "../../api/types";
import { said } from "../../parts/basics";
import { plain } from "../../shown";
import { t } from "../../texts";

const SCORES = [1, 2, 3, 4, 5];

/** What this page's user has said: the newest rating of the source `user`. */
export function ownRating(ratings: readonly Rating[]): Rating | undefined {
  return ratings.findLast((one) => one.source === "user");
}

export type Said = { score?: number | null; label?: string | null; comment?: string | null };

/**
 * Keeps what is said about a run beside what was said before: a new rating takes the place of the old one.
 *
 * What was said a moment ago is not among the run's ratings yet; it is said again, and in this order.
 */
export function useRate(run: Pick<Run, "session_id" | "number" | "ratings">) {
  const client = useQueryClient();
  const unseen = useRef<Said>({});
  const last = useRef<Promise<void>>(Promise.resolve());
  return (what: Said): Promise<void> => {
    const all = { ...unseen.current, ...what };
    unseen.current = all;
    const before = ownRating(run.ratings);
    const body = {
      score: before?.score ?? null,
      label: before?.label ?? null,
      comment: before?.comment ?? null,
      ...all,
    };
    const tell = async () => {
      await send("POST", `sessions/${part(run.session_id)}/runs/${run.number}/ratings`, body);
      await client.invalidateQueries({ queryKey: ["window", run.session_id] });
      client.invalidateQueries({ queryKey: ["found"] });
    };
    const told = last.current.then(tell).finally(() => {
      if (unseen.current === all) unseen.current = {};
    });
    last.current = told.catch(() => undefined);
    return told;
  };
}

export function Feedback({ run }: { run: Run }) {
  const rate = useRate(run);
  const own = ownRating(run.ratings);
  const [optimistic, setOptimistic] = useState<{ score: number } | null>(null);
  const [failed, setFailed] = useState("");
  const score = optimistic?.score ?? own?.score ?? 0;
  /** Whether it was kept. */
  const tell = async (what: Said) => {
    setFailed("");
    try {
      await rate(what);
      return true;
    } catch (error) {
      setFailed(said(error).title);
      return false;
    }
  };
  const press = async (number: number) => {
    const pressed = { score: number };
    setOptimistic(pressed);
    await tell(pressed);
    setOptimistic((now) => (now === pressed ? null : now)); // else another star was pressed meanwhile
  };
  const others = run.ratings.filter((one) => one !== own);
  return (
    <span className="feedback">
      {others.map((one) => (
        <span
          key={one.seq}
          className="rating"
          title={plain([one.comment, one.by === null ? "" : t.run.by(one.by)].filter(Boolean).join(" · "))}
        >
          {plain(one.source)} {one.score === null ? "" : `★ ${one.score}`} {one.label === null ? "" : plain(one.label)}
        </span>
      ))}
      <span className="stars" role="group" aria-label={t.run.rate}>
        {SCORES.map((one) => (
          <TooltipTrigger key={one} delay={600} closeDelay={0}>
            <Button
              className={one <= score ? "star on" : "star"}
              aria-label={t.run.score(one)}
              aria-pressed={one === score}
              onPress={() => press(one)}
            >
              ★
            </Button>
            <Tooltip className="tooltip">{t.run.score(one)}</Tooltip>
          </TooltipTrigger>
        ))}
      </span>
      <DialogTrigger>
        <Button className={own?.comment ? "link small" : "link small faint"}>{own?.label ?? t.run.comment}</Button>
        <Popover className="popover" placement="bottom end">
          <Dialog className="comment" aria-label={t.run.comment}>
            {({ close }) => (
              <form
                onSubmit={(event) => {
                  event.preventDefault();
                  const form = new FormData(event.currentTarget);
                  tell({ comment: String(form.get("comment")) || null, label: String(form.get("label")) || null }).then(
                    (isKept) => isKept && close(),
                  );
                }}
              >
                <TextField className="field" name="comment" defaultValue={own?.comment ?? ""} autoFocus>
                  <Label>{t.run.comment}</Label>
                  <TextArea placeholder={t.run.commentHint} />
                </TextField>
                <TextField className="field" name="label" defaultValue={own?.label ?? ""}>
                  <Label>{t.run.label}</Label>
                  <Input />
                </TextField>
                <Button className="button primary" type="submit">
                  {t.common.save}
                </Button>
              </form>
            )}
          </Dialog>
        </Popover>
      </DialogTrigger>
      <span role="status" className={failed === "" ? "hidden" : "wrong"}>
        {failed}
      </span>
    </span>
  );
}
