import { readFileSync } from 'node:fs';

const read = (name: string) => readFileSync(new URL(`certificates/${name}`, import.meta.url), 'utf8');

/** Who signed the others; nobody else trusts it. */
export const CA = read('ca.pem');
/** For `server.test`, `localhost` and 127.0.0.1. */
export const SERVER = { cert: read('server.pem'), key: read('server.key') };
export const CLIENT = { cert: read('client.pem'), key: read('client.key') };
