import type { Entitlements } from '../entitlements.ts';
import { demoEntitlements } from '../entitlements.ts';
import { TollgateError } from '../error.ts';
import { maskKey } from '../key.ts';
import type { Validation } from '../licensing.ts';
import type { Features } from '../shape.ts';
import { timeText } from '../time-text.ts';
import type { Tollgate } from '../tollgate.ts';
import { CHOICE, type Command, type Context, chosen, type Given } from './command.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';
import { printable, type Terminal } from './terminal.ts';

export const status: Command = {
  usage: 'status [--remote-verify] [--json]',
  summary: 'Say whether this device has a licence that counts, also without a network.',
  help: [
    ['--remote-verify', 'ask the server too, and go by what it says'],
    ['--json', 'print JSON'],
  ],
  options: { ...CHOICE, json: { type: 'boolean' }, 'remote-verify': { type: 'boolean' } },
  words: 0,
  run: showStatus,
};

/** What the server says: an answer, or why there is none; `null`: it was not asked. */
type Remote = Validation | TollgateError | null;

export async function showStatus(given: Given, { current, terminal }: Context): Promise<number> {
  const tollgate = await current.tollgateIfAny(chosen(given));
  if (tollgate === null) {
    const nothing = demoEntitlements(null);
    if (given.options.json) terminal.json(statusJson(nothing, null, null, null));
    else terminal.problem(nothing.detail, nothing.remedy);
    return EXIT.notEntitled;
  }
  const entitlements = await tollgate.entitlements();
  const { key } = await tollgate.stored();
  const remote = given.options['remote-verify'] && key !== null ? await ask(tollgate) : null;
  const { name, id } = await tollgate.device();
  const about = {
    server: tollgate.server,
    product: tollgate.product,
    key: key && maskKey(key),
    device: { id, name },
  };
  if (given.options.json) terminal.json(statusJson(entitlements, about, remote, tollgate));
  else print(entitlements, about, remote, terminal);
  if (remote instanceof TollgateError) return exitCodeOf(remote);
  return (remote === null ? entitlements.entitled : remote.valid) ? EXIT.fine : EXIT.notEntitled;
}

type About = { server: string; product: string; key: string | null; device: { id: string; name: string } };

function print(entitlements: Entitlements, about: About, remote: Remote, terminal: Terminal): void {
  const { entitled, code, detail, remedy, licence, features, ended } = entitlements;
  if (entitled && ended === null) terminal.done(printable(detail));
  else terminal.problem(printable(detail), remedy && printable(remedy), ended?.code ?? code);
  terminal.line();
  const rows: [string, string][] = [];
  rows.push(['State', code]);
  if (licence !== null) {
    rows.push(['Plan', `${printable(licence.planName)} (${printable(licence.plan)}), ${licence.mode}`]);
    rows.push(['Until', timeText(licence.expiresAt.getTime())]);
    rows.push(['Grace until', timeText(licence.graceUntil.getTime())]);
  }
  if (Object.keys(features).length > 0) rows.push([entitled ? 'Features' : 'Free', featuresText(features)]);
  if (about.key !== null) rows.push(['Key', about.key]);
  rows.push(['Device', `${printable(about.device.name)} (${about.device.id.slice(0, 12)})`]);
  rows.push(['Server', `${about.server}, product ${about.product}`]);
  if (remote !== null) rows.push(['Server says', remoteText(remote)]);
  terminal.facts(rows);
}

/** All features of a plan on a line: a flag by its name, anything else with its value. */
export function featuresText(features: Features): string {
  return Object.entries(features)
    .filter(([, value]) => value !== false)
    .map(([name, value]) => printable(value === true ? name : `${name} ${value}`))
    .join(', ');
}

function remoteText(remote: Validation | TollgateError): string {
  if (remote instanceof TollgateError) return `nothing: ${printable(remote.message)}`;
  return remote.valid ? 'valid' : printable(`${remote.code}: ${remote.detail}`);
}

async function ask(tollgate: Tollgate): Promise<Validation | TollgateError> {
  try {
    return await tollgate.validate();
  } catch (error) {
    if (error instanceof TollgateError) return error;
    throw error;
  }
}

function statusJson(
  { entitled, code, detail, remedy, plan, planName, features, licence, ended }: Entitlements,
  about: About | null,
  remote: Remote,
  tollgate: Tollgate | null,
): object {
  return {
    entitled,
    code,
    detail,
    remedy,
    plan,
    plan_name: planName,
    features,
    licence: licence && {
      key_id: licence.keyId,
      plan: licence.plan,
      plan_name: licence.planName,
      mode: licence.mode,
      expires_at: licence.expiresAt.toISOString(),
      grace_until: licence.graceUntil.toISOString(),
      floating: licence.floating,
    },
    ended: ended && {
      code: ended.code,
      detail: ended.detail,
      remedy: ended.remedy,
      at: new Date(ended.at).toISOString(),
    },
    key: about?.key ?? null,
    device: about?.device ?? null,
    server: tollgate?.server ?? null,
    product: tollgate?.product ?? null,
    ...(remote === null ? {} : { remote: remoteJson(remote) }),
  };
}

function remoteJson(remote: Validation | TollgateError): object {
  if (remote instanceof TollgateError)
    return { valid: null, code: remote.code, detail: remote.message, remedy: remote.remedy };
  const { valid, code, detail, remedy, devices } = remote;
  return { valid, code, detail, remedy, devices };
}
