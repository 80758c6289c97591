// The files of a session, and their versions. Contents are only ever saved: what they are nobody has checked.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Fragment, useState } from "react";
import { Button } from "react-aria-components";
import { contentOf, deleteFile, type File, files } from "../../api/kept";
import type { Session } from "../../api/types";
import { Ago, Empty, Failed, IconButton, Skeleton, Trouble } from "../../parts/basics";
import { useSaving } from "../../parts/saving";
import { bytes, plain } from "../../shown";
import { t } from "../../texts";
import { Ask } from "../work/windows";

export function FilesTab({ session }: { session: Session }) {
  const id = session.session_id;
  const client = useQueryClient();
  const found = useQuery(files(id, null));
  const [open, setOpen] = useState<string | null>(null);
  const [leaving, setLeaving] = useState<string | null>(null);
  if (found.data === undefined) {
    return found.error === null ? <Skeleton /> : <Trouble error={found.error} onRetry={() => found.refetch()} />;
  }
  if (found.data.length === 0) return <Empty icon="clip" title={t.files.empty} hint={t.files.emptyHint} />;
  return (
    <section className="card kept-files" aria-label={t.files.title}>
      <div className="table-scroll">
        <table className="figures">
          <thead>
            <tr>
              <th scope="col">{t.files.name}</th>
              <th scope="col">{t.files.version}</th>
              <th scope="col">{t.files.type}</th>
              <th scope="col">{t.files.size}</th>
              <th scope="col">{t.files.by}</th>
              <th scope="col">{t.files.written}</th>
              <th scope="col">
                <span className="hidden">{t.files.removeNow}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {found.data.map((one) => (
              <Fragment key={one.name}>
                <Row
                  id={id}
                  file={one}
                  onOpen={() => setOpen(open === one.name ? null : one.name)}
                  isOpen={open === one.name}
                  onDelete={() => setLeaving(one.name)}
                />
                {open === one.name ? <Versions id={id} newest={one} /> : null}
              </Fragment>
            ))}
          </tbody>
        </table>
      </div>
      {leaving === null ? null : (
        <Ask
          title={t.files.removeTitle}
          hint={t.files.removeHint(plain(leaving))}
          action={t.files.removeNow}
          isDanger
          onClose={() => setLeaving(null)}
          onDo={async () => {
            await deleteFile(id, leaving);
            await client.invalidateQueries({ queryKey: ["files", id] });
            return undefined;
          }}
        />
      )}
    </section>
  );
}

type RowProps = { id: string; file: File; isOpen?: boolean; onOpen?: () => void; onDelete?: () => void };

function Row({ id, file, isOpen, onOpen, onDelete }: RowProps) {
  const name = plain(file.name);
  const { save, failed } = useSaving();
  return (
    <tr>
      <th scope="row" dir="auto">
        {onOpen === undefined || file.version === 1 ? (
          name
        ) : (
          <Button className="link" onPress={onOpen} aria-expanded={isOpen}>
            {name}
          </Button>
        )}
      </th>
      <td>{file.version}</td>
      <td>{plain(file.media_type)}</td>
      <td>{bytes(file.size)}</td>
      <td dir="auto">{file.agent === null ? "" : plain(file.agent)}</td>
      <td>
        <Ago time={file.written_at} />
      </td>
      <td>
        <IconButton
          icon="download"
          label={t.files.save(name, file.version)}
          onPress={() => {
            const last = file.name.split("/").pop() || "file";
            save(contentOf(id), { name: file.name, version: file.version }, last);
          }}
        />
        {onDelete === undefined ? null : <IconButton icon="trash" label={t.files.remove(name)} onPress={onDelete} />}
        {failed}
      </td>
    </tr>
  );
}

/** The versions before the newest one, which stands above them. */
function Versions({ id, newest }: { id: string; newest: File }) {
  const found = useQuery(files(id, newest.name));
  if (found.error !== null && found.data === undefined) {
    return (
      <tr>
        <td colSpan={7}>
          <Failed error={found.error} />
        </td>
      </tr>
    );
  }
  const older = (found.data ?? []).filter((one) => one.version !== newest.version).reverse();
  return older.map((one) => <Row key={one.file_id} id={id} file={one} />);
}
