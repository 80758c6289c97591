// Two turns of a conversation by AG-UI's own client: node ag_ui.mjs ADDRESS TOKEN
import { HttpAgent } from "@ag-ui/client";

const [address, token] = process.argv.slice(2);
const agent = () =>
  new HttpAgent({
    url: `${address}/protocols/ag-ui/support`,
    threadId: "s1",
    headers: { Authorization: `Bearer ${token}` },
  });

const events = [];
async function ask(client, id, content) {
  client.addMessage({ id, role: "user", content });
  const { newMessages } = await client.runAgent({}, { onEvent: ({ event }) => void events.push(event.type) });
  return newMessages.map((message) => message.content).join("");
}

const first = agent();
await ask(first, "1", "My name is Ada.");
const second = agent(); // another page, which knows nothing of what was said
const answer = await ask(second, "2", "What is my name?");
console.log(JSON.stringify({ answer, events: [...new Set(events)] }));
