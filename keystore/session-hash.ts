import { createHash } from 'node:crypto';

/**
 * How a checkout session is named in the keystore: by the SHA-256 of its id (random and long, so that is enough). The id
 * itself is never written to the database in the clear: together with the server's secret it opens the sealed key.
 */
export function sessionHash(sessionId: string): string {
  return createHash('sha256').update(sessionId).digest('hex');
}
