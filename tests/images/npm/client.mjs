// Uses each feature of a server with a client that others wrote, and prints a line of JSON for each feature.
//
// node client.mjs CLIENT URL SERVER
//
// CLIENT is sdk, client-auto, client-modern or mcp-remote. SERVER is go or everything: what its tools are called.

import path from 'node:path';
import { cutting } from './cut.mjs';

const [name, url, serverName] = process.argv.slice(2);
const isOne = name === 'sdk' || name === 'mcp-remote';

const servers = {
  go: {
    text: { name: 'test_simple_text', arguments: {} },
    steps: { name: 'test_tool_with_progress', arguments: {} },
    sampling: { name: 'test_sampling', arguments: { prompt: 'capital?' } },
    elicitation: { name: 'test_elicitation', arguments: { message: 'name?' } },
    log: { name: 'test_tool_with_logging', arguments: {} },
    watched: 'test://watched-resource', // it changes every 3 seconds
  },
  everything: {
    text: { name: 'echo', arguments: { message: 'simple text' } },
    steps: { name: 'trigger-long-running-operation', arguments: { duration: 1, steps: 3 } },
    sampling: { name: 'trigger-sampling-request', arguments: { prompt: 'capital?' } },
    elicitation: { name: 'trigger-elicitation-request', arguments: {} },
    log: { name: 'toggle-simulated-logging', arguments: {} },
    watched: 'demo://resource/dynamic/text/1',
    update: { name: 'toggle-subscriber-updates', arguments: {} },
  },
};
const server = servers[serverName];

const errors = [];
const logged = [];
const updated = [];
let elicit = async () => ({ action: 'accept', content: { name: 'Ada', username: 'Ada' } });

let client;
let transport;

async function connect(url) {
  ({ client, transport } = await make(url));
  client.onerror = (error) => errors.push(String(error));
  await client.connect(transport);
}

async function disconnect() {
  if (transport.terminateSession) await transport.terminateSession();
  await client.close();
}

async function make(url) {
  const info = { name: 'test', version: '1' };
  const capabilities = { sampling: {}, elicitation: {} };
  const sample = async () => ({ model: 'test', role: 'assistant', content: { type: 'text', text: 'Paris' } });
  if (isOne) {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const types = await import('@modelcontextprotocol/sdk/types.js');
    const client = new Client(info, { capabilities });
    client.setRequestHandler(types.CreateMessageRequestSchema, sample);
    client.setRequestHandler(types.ElicitRequestSchema, () => elicit());
    client.setNotificationHandler(types.LoggingMessageNotificationSchema, (message) => { logged.push(message.params); });
    client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, (message) => { updated.push(message.params.uri); });
    if (name === 'mcp-remote') {
      const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
      const proxy = path.join(import.meta.dirname, 'node_modules/mcp-remote/dist/proxy.js');
      return { client, transport: new StdioClientTransport({ command: process.execPath, args: [proxy, url, '--transport', 'http-only', '--allow-http'], stderr: 'ignore', env: process.env }) };
    }
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    return { client, transport: new StreamableHTTPClientTransport(new URL(url)) };
  }
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const mode = name === 'client-modern' ? { pin: '2026-07-28' } : 'auto';
  const client = new Client(info, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler('sampling/createMessage', sample);
  client.setRequestHandler('elicitation/create', () => elicit());
  client.setNotificationHandler('notifications/message', (message) => { logged.push(message.params); });
  client.setNotificationHandler('notifications/resources/updated', (message) => { updated.push(message.params.uri); });
  return { client, transport: new StreamableHTTPClientTransport(new URL(url)) };
}

const isModern = () => !isOne && client.getNegotiatedProtocolVersion() >= '2026';
const call = (tool, options) => (isOne ? client.callTool(tool, undefined, options) : client.callTool(tool, options));
const textOf = (result) => result.content.map((one) => one.text ?? '').join(' ');

function check(condition, what) {
  if (!condition) throw new Error(what);
}

async function eventually(is, what) {
  for (const end = Date.now() + 15_000; !is(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    check(Date.now() < end, `${what} within 15 s`);
  }
}

const features = {
  async list() {
    const { tools } = await client.listTools();
    check(tools.some((tool) => tool.name === server.text.name), `no tool ${server.text.name}`);
    check((await client.listResources()).resources.length > 0, 'no resources');
    check((await client.listPrompts()).prompts.length > 0, 'no prompts');
  },
  async call() {
    for (let i = 0; i < 10; i++) {
      const text = textOf(await call(server.text));
      check(text.includes('simple text'), text);
    }
    const texts = await Promise.all(Array.from({ length: 10 }, () => call(server.text)));
    check(texts.every((one) => textOf(one).includes('simple text')), 'calls at the same time');
  },
  async progress() {
    const steps = [];
    await call(server.steps, { onprogress: (step) => steps.push(step.progress) });
    check(steps.length === 3 && steps[0] < steps[1] && steps[1] < steps[2], `the progress is ${steps}`);
  },
  async sampling() {
    const tool = isModern() ? { name: 'test_input_required_result_sampling', arguments: {} } : server.sampling;
    const text = textOf(await call(tool));
    check(text.includes('Paris'), text);
  },
  async elicitation() {
    const tool = isModern() ? { name: 'test_input_required_result_elicitation', arguments: {} } : server.elicitation;
    const text = textOf(await call(tool));
    check(text.includes('Ada'), text);
  },
  async subscription() {
    updated.length = 0;
    let stream;
    if (isModern()) {
      stream = await client.listen({ resourceSubscriptions: [server.watched] });
    } else {
      await client.subscribeResource({ uri: server.watched });
    }
    if (server.update) await call(server.update);
    await eventually(() => updated.includes(server.watched), 'the resource changes');
    if (server.update) await call(server.update);
    await (stream ? stream.close() : client.unsubscribeResource({ uri: server.watched }));
  },
  async logging() {
    logged.length = 0;
    if (isModern()) {
      await call({ ...server.log, _meta: { 'io.modelcontextprotocol/logLevel': 'debug' } });
    } else {
      await client.setLoggingLevel('debug');
      await call(server.log);
    }
    await eventually(() => logged.length > 0, 'a log message arrives');
    if (serverName === 'go') check(logged.length === 3, `${logged.length} log messages, want 3`);
  },
  // The call waits for an answer of the user when it is cancelled. After that, the session works, and nothing of the cancelled call arrives, even if the user
  // answers late.
  async cancellation() {
    const controller = new AbortController();
    const before = errors.length;
    let failure;
    let answerLate;
    if (isModern()) { // the first notification of progress comes while the call works
      failure = await call(server.steps, { signal: controller.signal, onprogress: () => controller.abort('changed my mind') }).catch((error) => error);
    } else {
      const answer = elicit;
      elicit = () => {
        controller.abort('changed my mind');
        return new Promise((resolve) => { answerLate = resolve; });
      };
      failure = await call(server.elicitation, { signal: controller.signal }).catch((error) => error);
      elicit = answer;
    }
    check(String(failure).includes('changed my mind'), `the call ends with ${failure}`);
    await features.call();
    answerLate?.(await elicit());
    await features.call();
    // The SDK forgets the call at once, so a step that has already arrived at that moment is an error for it.
    const others = errors.slice(before).filter((error) => !(isModern() && String(error).includes('progress notification for an unknown token')));
    check(others.length === 0, `after the cancellation: ${others}`);
  },
  // The stream of the call breaks off after the first message. The client comes back with Last-Event-ID and misses nothing.
  async resumption() {
    const between = await cutting(url);
    await disconnect();
    await connect(between.url);
    between.cutsNext = true;
    if (serverName === 'go') {
      await client.setLoggingLevel('debug');
      logged.length = 0;
      await call(server.log);
      await eventually(() => logged.length >= 3, 'the log messages arrive');
      check(logged.length === 3, `${logged.length} log messages, want 3`);
    } else { // the SDK ignores progress that it reads together with the result
      const steps = [];
      await call(server.steps, { onprogress: (step) => steps.push(step.progress) });
      check(steps.length > 0 && steps.every((step, i) => i === 0 || step > steps[i - 1]), `the progress is ${steps}`);
    }
    check(between.cuts === 1, `${between.cuts} streams were cut, want 1`);
  },
};

await connect(url);
const version = isOne ? transport.protocolVersion ?? '' : client.getNegotiatedProtocolVersion();
console.log(JSON.stringify({ version }));
if (isModern()) delete features.resumption; // the protocol has none
for (const [feature, use] of Object.entries(features)) {
  try {
    await use();
    console.log(JSON.stringify({ feature, error: '' }));
  } catch (error) {
    console.log(JSON.stringify({ feature, error: String(error?.stack ?? error) }));
  }
}
await disconnect();
