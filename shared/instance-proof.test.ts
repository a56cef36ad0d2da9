import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { type Instance, instanceProof, provesInstance } from './instance-proof.ts';

const instance: Instance = {
  service: 'billing',
  publicUrl: 'https://buy.example.com',
  serverSecret: 'c2VydmVyIHNlY3JldCBvZiB0aGUgdGVzdHMgb25seQ==',
};
const challenge = randomBytes(32).toString('base64url');

it('an instance proves itself, and nothing else', () => {
  const proof = instanceProof(challenge, instance);
  expect(provesInstance(proof, challenge, instance)).toBe(true);
  const others: Instance[] = [
    { ...instance, service: 'gateway' },
    { ...instance, publicUrl: 'https://staging.example.com' },
    { ...instance, serverSecret: `${instance.serverSecret}=` },
  ];
  for (const other of others) expect(provesInstance(proof, challenge, other)).toBe(false);
  expect(provesInstance(proof, randomBytes(32).toString('base64url'), instance)).toBe(false);
});

it.each([undefined, null, '', 'short', [challenge], `${challenge}\n`, 'x'.repeat(10_000)])(
  'what is no challenge has no proof: %j',
  (text) => {
    expect(instanceProof(text, instance)).toBeUndefined();
    expect(provesInstance(text, challenge, instance)).toBe(false);
  },
);
