import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Button } from "react-aria-components";
import { media } from "../api/client";
import type { Media } from "../messages";
import { bytes } from "../shown";
import { t } from "../texts";
import { Failed } from "./basics";
import { Icon } from "./Icon";
import { ImageElsewhere } from "./Markdown";

/** Images that a browser shows without harm; an SVG is a document with scripts. */
const SAFE = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const MOST_AT_ONCE = 2_000_000;

export default function MediaShown({ media: one, sessionId }: { media: Media; sessionId: string }) {
  if (one.kind === "elsewhere") return <ImageElsewhere url={one.url} alt="" />;
  return <Kept media={one} sessionId={sessionId} />;
}

function Kept({ media: one, sessionId }: { media: Exclude<Media, { kind: "elsewhere" }>; sessionId: string }) {
  const isImage = SAFE.has(one.type);
  const [isWanted, setWanted] = useState(isImage && one.size < MOST_AT_ONCE);
  const found = useQuery({
    queryKey: ["media", sessionId, one.kind === "stored" ? one.digest : one.data.slice(0, 64) + one.size],
    queryFn: ({ signal }) =>
      one.kind === "stored" ? media(sessionId, one.digest, signal) : blobOf(one.data, one.type),
    enabled: isWanted,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const open = () => (isWanted ? found.refetch() : setWanted(true));
  const address = useAddressOf(found.data, isImage ? one.type : "application/octet-stream");
  if (isImage && address !== null) return <img className="media" src={address} alt={t.run.image} />;
  return (
    <span className="file">
      <Icon name="clip" /> {one.type} · {bytes(one.size)}{" "}
      {address === null ? (
        <Button className="link" onPress={open} isDisabled={found.isFetching}>
          {found.isFetching ? t.common.loading : isImage ? t.common.open : t.work.export}
        </Button>
      ) : (
        <a href={address} download={`file.${one.type.split("/").pop()?.replace(/\W.*/, "") ?? "bin"}`}>
          {t.work.export}
        </a>
      )}
      {found.error === null || found.isFetching ? null : <Failed error={found.error} />}
    </span>
  );
}

function useAddressOf(blob: Blob | undefined, type: string): string | null {
  const [address, setAddress] = useState<string | null>(null);
  useEffect(() => {
    if (blob === undefined) return;
    const made = URL.createObjectURL(new Blob([blob], { type }));
    setAddress(made);
    return () => {
      URL.revokeObjectURL(made);
      setAddress(null); // until the next one is there, nothing is better than the one before
    };
  }, [blob, type]);
  return address;
}

function blobOf(data: string, type: string): Blob {
  const text = atob(data.replace(/-/g, "+").replace(/_/g, "/"));
  return new Blob([Uint8Array.from(text, (one) => one.charCodeAt(0))], { type });
}
