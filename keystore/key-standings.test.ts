import { afterEach, expect, it } from 'vitest';
import { closeKeystores, keystore, purchase, subscription } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

it('keys of the same standing are counted together, each once, and revoked ones not at all', async () => {
  const url = newKeystoreUrl();
  const store = await keystore({ url });
  // More than are read by one statement, some of one moment.
  await rawQuery(
    url,
    `with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
     insert into keys (id, root_id, mode, prefix, hash, tag, last_four, plan_id, created_at, revoked_at, expires_at)
     select 'k' || (10000000000 + i), 'k' || (10000000000 + i), 'test', 'tg', 'x', 1, 'aaaa', 'pro', i / 7,
       case when i % 3 = 0 then 1 end, case when i % 3 = 1 then 1 end
     from n`,
  );
  await store.provisionPurchase(
    purchase({
      planId: 'team',
      subscription: subscription({ planId: 'team', status: 'past_due', pastDueSince: 7 }),
    }),
  );
  const found = await store.keyStandings();
  const key = { revokedAt: null, expiresAt: null, suspendedAt: null, disputedSince: null };
  expect(found).toHaveLength(3);
  expect(found).toContainEqual({
    count: 1,
    planId: 'team',
    key,
    subscription: { status: 'past_due', pastDueSince: 7 },
  });
  expect(found).toContainEqual({ count: 20_000, planId: 'pro', key, subscription: null });
  expect(found).toContainEqual({
    count: 20_000,
    planId: 'pro',
    key: { ...key, expiresAt: 0 },
    subscription: null,
  });
});
