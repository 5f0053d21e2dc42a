// Runs the CLI of the inspector, which opens a session for each command, and prints a line of JSON for each command.
//
// node inspector.mjs URL

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

const [url] = process.argv.slice(2);
const cli = path.join(import.meta.dirname, 'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js');
const text = ['--method', 'tools/call', '--tool-name', 'test_simple_text'];

const commands = {
  'list the tools': { era: 'legacy', args: ['--method', 'tools/list'], want: '"test_simple_text"' },
  'list the resources': { era: 'legacy', args: ['--method', 'resources/list'], want: '"test://static-text"' },
  'list the prompts': { era: 'legacy', args: ['--method', 'prompts/list'], want: '"test_simple_prompt"' },
  call: { era: 'legacy', args: text, want: 'simple text' },
  'call, modern': { era: 'modern', args: text, want: 'simple text' },
  'call, finding the era': { era: 'auto', args: text, want: 'simple text' },
  '100 calls, 10 at once': { era: 'legacy', args: [...text, '--load', '--load-requests', '100', '--format', 'json'], want: '"errors":0' },
  read: { era: 'legacy', args: ['--method', 'resources/read', '--uri', 'test://static-text'], want: 'static text resource' },
  logging: { era: 'legacy', args: ['--method', 'logging/setLevel', '--log-level', 'debug'], want: '{}' },
};

for (const [feature, { era, args, want }] of Object.entries(commands)) {
  let error = '';
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [cli, '--cli', url, '--transport', 'http', '--protocol-era', era, ...args]);
    if (!stdout.includes(want)) error = `got ${stdout}, want ${want}`;
  } catch (failure) {
    error = `${failure} ${failure.stdout ?? ''}`;
  }
  console.log(JSON.stringify({ feature, error }));
}
