import type { Request } from 'express';
import type { KeyFacts } from '../keystore/keystore.ts';
import { REPLACED_AND_OVER, REVOKED_BECAUSE } from '../shared/access.ts';
import type { AddressLimit } from '../shared/address-limit.ts';
import { parseKey } from '../shared/keys.ts';
import { ProblemError } from '../shared/problems.ts';
import type { Billing } from './context.ts';

/**
 * Whose key was presented.
 *
 * @param misses counts wrong keys by address; a good key is never shut out by them
 * @throws ProblemError `invalid_key`, `wrong_mode`, those of {@link mayManage}; `too_many_requests` after too many wrong ones
 */
export async function identifyBuyer(
  { keystore, mode }: Billing,
  request: Request,
  presented: string,
  misses: AddressLimit,
): Promise<KeyFacts> {
  const facts = await keystore.authenticateKey(presented);
  if (facts && facts.mode === mode) return mayManage(facts);
  await misses.spend(request);
  const parsed = parseKey(presented);
  if (!parsed)
    throw new ProblemError('invalid_key', 'What was sent is not a whole key: its form or checksum is wrong.');
  if (parsed.mode !== mode) {
    throw new ProblemError('wrong_mode', `This is a ${parsed.mode} key, and this server is in ${mode} mode.`);
  }
  throw new ProblemError('invalid_key', 'No key like this was ever issued here.');
}

/**
 * Lets pass whoever may manage a subscription by this key: also with a key that is suspended or whose subscription has
 * ended, for that is put right there; not with one that was revoked or has been replaced for good.
 *
 * @throws ProblemError `revoked_key`, `expired_key`
 */
export function mayManage(facts: KeyFacts): KeyFacts {
  if (facts.revokedAt !== null)
    throw new ProblemError('revoked_key', REVOKED_BECAUSE[facts.revokedReason ?? 'operator']);
  if (facts.replacedBy !== null && facts.expiresAt !== null && facts.expiresAt <= Date.now()) {
    const { detail, remedy } = REPLACED_AND_OVER;
    throw new ProblemError('expired_key', detail, { remedy });
  }
  return facts;
}
