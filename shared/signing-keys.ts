import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

/** The keys of entitlement tokens: the one that signs, and all whose signatures count, that one first. */
export type SigningKeys = { signing: KeyObject; verifying: readonly KeyObject[] };

const PEM_BLOCK = /-----BEGIN ((?:PRIVATE|PUBLIC) KEY)-----[\s\S]*?-----END \1-----/g;

/** A new Ed25519 private key, as PEM (PKCS #8). */
export function newSigningKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
}

/**
 * Reads keys in PEM, one after the other: the first signs; signatures of the others count too. Where a variable cannot hold
 * line breaks, `\\n` stands for one.
 *
 * @throws Error that says what is wrong, without anything of what was given
 */
export function readSigningKeys(text: string): SigningKeys {
  const pems = text.replaceAll('\\n', '\n');
  const blocks = [...pems.matchAll(PEM_BLOCK)];
  if (blocks.length === 0) throw new Error('holds no key in PEM (BEGIN PRIVATE KEY)');
  // One that is encrypted, cut off or in another format would otherwise count for nothing without a word.
  if (/-----(BEGIN|END) /.test(pems.replaceAll(PEM_BLOCK, '')))
    throw new Error('has a key that cannot be read: give each as it was made, in PEM');
  const keys = blocks.map(([pem, kind]) => readKey(pem, kind === 'PRIVATE KEY'));
  const [first] = keys as [KeyObject, ...KeyObject[]];
  if (first.type !== 'private')
    throw new Error('begins with a public key: the first has to be the private key that signs');
  return {
    signing: first,
    verifying: keys.map((key) => (key.type === 'private' ? createPublicKey(key) : key)),
  };
}

/** What is wrong with the value of `LICENSING_KEYS`; `null`: nothing. */
export function signingKeysFault(text: string): string | null {
  try {
    readSigningKeys(text);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function readKey(pem: string, isPrivate: boolean): KeyObject {
  let key: KeyObject;
  try {
    key = isPrivate ? createPrivateKey(pem) : createPublicKey(pem);
  } catch {
    // The library's own words could quote the key.
    throw new Error('has a key that cannot be read: give each as it was made, in PEM');
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new Error(`has a key of the kind ${key.asymmetricKeyType}, not Ed25519`);
  return key;
}
