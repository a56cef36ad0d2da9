import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { TlsSpec, UpstreamSpec } from './route-spec.ts';
import type { RouteFields } from './routes-schema.ts';

/** Tells of a mistake: the field that it is in, and what is wrong with it. Never the value. */
export type Report = (field: string, message: string) => void;

/** Where routes may refer to. */
export type Surroundings = {
  /** Paths in the file are relative to this folder. */
  folder: string;
  env: Readonly<Record<string, string | undefined>>;
};

const NO_TLS: TlsSpec = { ca: null, cert: null, key: null, serverName: null, verify: true };
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
/** What can stand in a header (RFC 9110 section 5.5). */
const SENDABLE = /^[!-~](?:[ -~]*[!-~])?$/;

/** The secret that a server knows the gateway by, wherever it is kept. */
export function readUpstreamSecret(
  { header, value, value_file, value_env }: NonNullable<RouteFields['upstream_secret']>,
  { folder, env }: Surroundings,
  report: Report,
): UpstreamSpec['secret'] {
  const given = [value, value_file, value_env].filter((each) => each !== undefined);
  if (given.length !== 1) {
    report('upstream_secret', 'has to have one of value_file, value_env and value');
    return null;
  }
  let secret = value;
  if (value_file !== undefined) {
    secret = readText(resolve(folder, value_file), 'upstream_secret.value_file', report)?.trim();
    if (secret === undefined) return null;
  }
  if (value_env !== undefined) {
    secret = env[value_env]?.trim();
    if (!secret) {
      report('upstream_secret.value_env', `names the variable ${value_env}, which is not set`);
      return null;
    }
  }
  if (!SENDABLE.test(secret ?? '')) {
    report('upstream_secret', 'is empty, or cannot be sent in a header');
    return null;
  }
  return { header, value: secret as string };
}

/** Certificates and key, read and checked: that they can be parsed, and that the key is the certificate's. */
export function readTls(
  { ca_file, cert_file, key_file, server_name, verify }: NonNullable<RouteFields['tls']>,
  { folder }: Surroundings,
  report: Report,
): TlsSpec {
  if ((cert_file === undefined) !== (key_file === undefined)) {
    report('tls', 'has one of cert_file and key_file; a client certificate takes both');
    return NO_TLS;
  }
  const read = (field: string, file: string | undefined) =>
    file === undefined ? null : (readText(resolve(folder, file), field, report) ?? null);
  const ca = read('tls.ca_file', ca_file);
  const cert = read('tls.cert_file', cert_file);
  const key = read('tls.key_file', key_file);
  if (ca !== null) parseCertificates(ca, 'tls.ca_file', report);
  const own = cert === null ? null : parseCertificates(cert, 'tls.cert_file', report);
  const privateKey = key === null ? null : parseKey(key, report);
  if (own && privateKey && !own.checkPrivateKey(privateKey)) {
    report('tls.key_file', 'is not the key of the certificate in cert_file');
  }
  return { ca, cert, key, serverName: server_name ?? null, verify };
}

function readText(file: string, field: string, report: Report): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    report(field, `names ${file}, which ${missing ? 'does not exist' : 'cannot be read'}`);
    return undefined;
  }
}

/** @returns the first, which is the one that the others vouch for */
function parseCertificates(pem: string, field: string, report: Report): X509Certificate | null {
  try {
    const [first] = [...pem.matchAll(CERTIFICATE)].map(([block]) => new X509Certificate(block));
    if (first !== undefined) return first;
  } catch {
    // Reported below.
  }
  report(field, 'is not a file with certificates in PEM form');
  return null;
}

function parseKey(pem: string, report: Report): KeyObject | null {
  try {
    return createPrivateKey(pem);
  } catch {
    report('tls.key_file', 'is not a private key in PEM form without a passphrase');
    return null;
  }
}
