// What is approved in all sessions of a user.

import { useQuery } from "@tanstack/react-query";
import { change, useAddress } from "../../address";
import { grants } from "../../api/kept";
import { about } from "../../api/queries";
import { Empty, Skeleton, Trouble } from "../../parts/basics";
import { Named } from "../../parts/fields";
import { plain } from "../../shown";
import { t } from "../../texts";
import { Grants } from "./Grants";

export default function Approvals() {
  const { query } = useAddress();
  const who = useQuery(about()).data;
  const isAdministrator = who?.administrator !== false;
  const user = isAdministrator ? (query.get("user") ?? who?.user_id ?? null) : (who?.user_id ?? null);
  const found = useQuery({ ...grants(null, isAdministrator ? user : null), enabled: user !== null });
  return (
    <div className="page">
      <h1>{user === null ? t.approvals.title : t.approvals.of(plain(user))}</h1>
      <p className="muted">{t.approvals.hint}</p>
      {isAdministrator ? (
        <div className="asked">
          <Named label={t.approvals.user} field="user" value={user ?? ""} onChange={(user) => change({ user })} />
        </div>
      ) : null}
      {user === null ? <Empty icon="user" title={t.approvals.title} hint={t.approvals.noUser} /> : null}
      {user !== null && found.isPending ? <Skeleton lines={4} /> : null}
      {found.error !== null && found.data === undefined ? (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      ) : null}
      {found.data?.length === 0 ? <Empty icon="check" title={t.approvals.empty} hint={t.approvals.emptyHint} /> : null}
      <Grants grants={found.data ?? []} user={isAdministrator ? user : null} />
    </div>
  );
}
