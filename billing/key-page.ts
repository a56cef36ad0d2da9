import type { Request, Response } from 'express';
import { planOfKey } from '../shared/plans.ts';
import type { Billing } from './context.ts';
import { planText, sendPage, timeText, wantsPage } from './pages.ts';

/** A key that is shown this once. */
export type ShownKey = {
  plaintext: string;
  keyId: string;
  lastFour: string;
  /** The key it takes the place of, and until when that one still works; `null`: no more. */
  replaces?: { keyId: string; worksUntil: number | null };
};

/**
 * Answers with a key, as a page or JSON.
 *
 * @param address what the page's address becomes, so that reloading it sends no form again
 */
export async function showKey(
  billing: Billing,
  request: Request,
  response: Response,
  key: ShownKey,
  address: string,
): Promise<void> {
  if (!wantsPage(request)) {
    response.json(await keyJson(billing, key));
    return;
  }
  const { plan, curl } = await aboutKey(billing, key);
  const { replaces } = key;
  sendPage(response, 'key', {
    key: key.plaintext,
    keyId: key.keyId,
    plan: plan && planText(plan),
    curl,
    address,
    old: replaces && {
      keyId: replaces.keyId,
      until: replaces.worksUntil === null ? null : timeText(replaces.worksUntil),
    },
  });
}

/** A key as JSON. */
export async function keyJson(billing: Billing, key: ShownKey): Promise<object> {
  const { plan, planId, curl } = await aboutKey(billing, key);
  const { replaces } = key;
  return {
    key: key.plaintext,
    key_id: key.keyId,
    last_four: key.lastFour,
    mode: billing.mode,
    plan: planId,
    limits:
      plan?.limits.map(({ name, requests, seconds }) => ({ name, requests, window_seconds: seconds })) ?? [],
    quota: plan?.quota ?? null,
    gateway_url: billing.config.publicGatewayUrl,
    curl,
    ...(replaces && {
      replaces: {
        key_id: replaces.keyId,
        works_until: replaces.worksUntil === null ? null : new Date(replaces.worksUntil).toISOString(),
      },
    }),
  };
}

/**
 * What is said beside a key. The answer that carries one is the only copy: it is written nowhere, so nothing here may fail for
 * want of something less important.
 */
async function aboutKey({ config, keystore, log, plans }: Billing, { plaintext, keyId }: ShownKey) {
  const facts = await keystore.findKeyFacts(keyId).catch((error) => {
    log.warn({ err: error, key: keyId }, 'A key is shown without its plan: the keystore cannot be read');
    return undefined;
  });
  const sold = facts && plans.plan(facts.planId);
  return {
    planId: facts?.planId ?? null,
    plan: sold && planOfKey(sold, facts),
    curl: `curl -H "X-API-Key: ${plaintext}" ${config.publicGatewayUrl}/whoami`,
  };
}
