import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { newSigningKey, readSigningKeys, signingKeysFault } from './signing-keys.ts';

const publicOf = (pem: string) => createPublicKey(pem).export({ type: 'spki', format: 'pem' }) as string;

describe('signing keys', () => {
  it('are the first, which signs, and those whose signatures count too', () => {
    const [first, second] = [newSigningKey(), newSigningKey()];
    const { signing, verifying } = readSigningKeys(
      `${first}# the next one\n${second}${publicOf(newSigningKey())}`,
    );
    expect(signing.type).toBe('private');
    expect(verifying.map(({ type }) => type)).toEqual(['public', 'public', 'public']);
    expect(verifying[0]!.export({ type: 'spki', format: 'pem' })).toBe(publicOf(first));
  });

  it('may come in one line', () => {
    const pem = newSigningKey();
    expect(readSigningKeys(pem.trim().replaceAll('\n', '\\n')).signing.asymmetricKeyType).toBe('ed25519');
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  });
  it.each([
    ['nothing', 'not a key at all, whatever it is', 'holds no key in PEM (BEGIN PRIVATE KEY)'],
    [
      'a public key first',
      publicOf(newSigningKey()),
      'begins with a public key: the first has to be the private key that signs',
    ],
    [
      'a second key in a format that is not read',
      `${newSigningKey()}-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n`,
      'has a key that cannot be read: give each as it was made, in PEM',
    ],
    [
      'a second key that is cut off',
      `${newSigningKey()}-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n`,
      'has a key that cannot be read: give each as it was made, in PEM',
    ],
    ['another kind of key', rsa as string, 'has a key of the kind rsa, not Ed25519'],
    [
      'a broken key',
      '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----',
      'has a key that cannot be read: give each as it was made, in PEM',
    ],
  ])('%s is refused, without a word of it', (_what, text, fault) => {
    expect(signingKeysFault(text)).toBe(fault);
  });
});
