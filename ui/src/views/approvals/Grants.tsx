// Approvals that hold for later calls: which, by whom, until when; taken back.

import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { to } from "../../address";
import { revoke } from "../../api/kept";
import type { Grant } from "../../api/types";
import { Ago, IconButton } from "../../parts/basics";
import { plain } from "../../shown";
import { t } from "../../texts";
import { Ask } from "../work/windows";

type GrantsProps = {
  grants: Grant[];
  /** Whose they are, where that must be said. */
  user: string | null;
};

export function Grants({ grants, user }: GrantsProps) {
  const client = useQueryClient();
  const [asked, setAsked] = useState<{ grant: Grant; user: string | null } | null>(null);
  return (
    <>
      {grants.map((one) => (
        <article key={one.grant_id} className="run" aria-label={plain(`${one.tool} (${one.agent})`)}>
          <header className="run-head">
            <p dir="auto">
              <strong>{plain(one.tool)}</strong> · {plain(one.agent)}
            </p>
            <span className="facts">
              <span>
                {one.session_id === null ? (
                  t.approvals.everywhere
                ) : (
                  <a href={to(["session", one.session_id])}>{t.approvals.inSession}</a>
                )}
              </span>
              <span dir="auto">{one.by === null ? t.approvals.byNobody : t.approvals.by(plain(one.by))}</span>
              <Ago time={one.granted_at} />
              <span>
                {one.expires_at === null ? (
                  t.approvals.forGood
                ) : (
                  <>
                    {t.approvals.until} <Ago time={one.expires_at} />
                  </>
                )}
              </span>
              <IconButton
                icon="trash"
                label={t.approvals.revoke(plain(one.tool))}
                onPress={() => setAsked({ grant: one, user })}
              />
            </span>
          </header>
        </article>
      ))}
      {asked === null ? null : (
        <Ask
          title={t.approvals.revokeTitle}
          hint={t.approvals.revokeHint(plain(asked.grant.tool), plain(asked.grant.agent))}
          action={t.approvals.revokeNow}
          isDanger
          onClose={() => setAsked(null)}
          onDo={async () => {
            await revoke(asked.grant, asked.user);
            await client.invalidateQueries({ queryKey: ["approvals"] });
            return undefined;
          }}
        />
      )}
    </>
  );
}
