import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import license from "rollup-plugin-license";
import { defineConfig, type PluginOption } from "vite";

/** The page names all that it is begun with, so that a browser asks for it before the first script has run. */
const begunWith: PluginOption = {
  name: "begun-with",
  transformIndexHtml: {
    order: "post",
    handler(_, { bundle }) {
      const chunks = Object.values(bundle ?? {}).filter((one) => one.type === "chunk");
      const begun = chunks.find((one) => one.facadeModuleId?.endsWith("/src/start.tsx"));
      const first = chunks.find((one) => one.isEntry);
      const wanted = [begun?.fileName, ...(begun?.imports ?? [])].filter(
        (one) => one !== undefined && one !== first?.fileName && !first?.imports.includes(one),
      );
      const fonts = Object.keys(bundle ?? {}).filter((name) => name.endsWith(".woff2"));
      const link = (attrs: Record<string, string | boolean>) => ({ tag: "link", attrs, injectTo: "head" as const });
      return [
        ...wanted.map((name) => link({ rel: "modulepreload", crossorigin: true, href: `./${name}` })),
        ...fonts.map((name) =>
          link({ rel: "preload", as: "font", type: "font/woff2", crossorigin: true, href: `./${name}` }),
        ),
      ];
    },
  },
};

// Built into the Python package. Addresses are relative, so that the server may be mounted below any path.
export default defineConfig({
  base: "./",
  resolve: {
    alias: {
      // Its form for browsers puts text into innerHTML, which the page's policy refuses.
      "decode-named-character-reference": fileURLToPath(
        new URL("node_modules/decode-named-character-reference/index.js", import.meta.url),
      ),
    },
  },
  plugins: [
    react(),
    begunWith,
    license({
      thirdParty: {
        output: {
          file: fileURLToPath(new URL("../src/sessile/server/static/NOTICES.txt", import.meta.url)),
          template(dependencies) {
            const sorted = [...dependencies].sort((a, b) => (a.name ?? "").localeCompare(b.name ?? "", "en"));
            const head = "What the dashboard of Sessile contains of others, and under which licences.";
            const texts = sorted.map((one) => {
              const title = `${one.name} ${one.version} (${one.license})`;
              return `${title}\n${"-".repeat(title.length)}\n\n${(one.licenseText ?? "").replace(/\r\n/g, "\n").trim()}`;
            });
            const font = readFileSync(
              new URL("node_modules/@fontsource-variable/inter/LICENSE", import.meta.url),
              "utf8",
            );
            texts.push(`Inter, a typeface (OFL-1.1)\n---------------------------\n\n${font.trim()}`);
            return `${[head, ...texts].join("\n\n\n")}\n`;
          },
        },
      },
    }) as PluginOption,
  ],
  build: {
    outDir: "../src/sessile/server/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    sourcemap: false,
    modulePreload: { polyfill: false },
    target: "es2022",
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
  server: {
    proxy: {
      "^/(sessions|runs|search|usage|examples|waiting|changes|agents|health|ready|status)": "http://127.0.0.1:8000",
    },
  },
});
