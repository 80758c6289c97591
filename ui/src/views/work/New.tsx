import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Radio, RadioGroup } from "react-aria-components";
import { go, to, useAddress } from "../../address";
import { agents } from "../../api/queries";
import { Empty, Skeleton, Trouble } from "../../parts/basics";
import { plain } from "../../shown";
import { t } from "../../texts";
import { Composer } from "./Composer";

/** A session that begins here. */
export default function New() {
  const found = useQuery(agents());
  const { query } = useAddress();
  const [name, setName] = useState(query.get("agent") ?? "");
  if (found.data === undefined) {
    return found.error === null ? (
      <Skeleton lines={4} />
    ) : (
      <Trouble error={found.error} onRetry={() => found.refetch()} />
    );
  }
  if (found.data.length === 0) {
    return (
      <Empty icon="sessions" title={t.work.noAgents}>
        <pre className="code">{t.work.noAgentsCode}</pre>
      </Empty>
    );
  }
  const chosen = found.data.find((one) => one.name === name) ?? found.data[0];
  return (
    <div className="page new">
      <h1>{t.work.newSession}</h1>
      <p className="muted">{t.work.newHint}</p>
      <RadioGroup className="agents" aria-label={t.work.with} value={chosen?.name ?? ""} onChange={setName}>
        {found.data.map((one) => (
          <Radio key={one.name} value={one.name} className="agent-choice">
            <strong dir="auto">{plain(one.name)}</strong>
            <span className="muted">{t.kind[one.kind] ?? one.kind}</span>
            {one.description === null ? null : <span dir="auto">{plain(one.description)}</span>}
          </Radio>
        ))}
      </RadioGroup>
      <Composer session={null} agent={chosen?.name} onBegun={(begun) => go(to(["session", begun.session_id]))} />
    </div>
  );
}
