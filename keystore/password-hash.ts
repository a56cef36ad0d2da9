import * as argon2 from '@node-rs/argon2';

/** OWASP's cost for passwords of people: Argon2id with 19 MiB, 2 passes, 1 lane; about 10 ms of one core. */
const COST = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

let ofNobody: Promise<string> | undefined;

/** The Argon2id PHC string of a password. */
export function hashPassword(password: string): Promise<string> {
  return argon2.hash(password.normalize('NFC'), COST);
}

/** Whether a password is the hashed one. Takes as long where there is no hash, because there is no such user. */
export async function isPassword(password: string, hash: string | undefined): Promise<boolean> {
  ofNobody ??= hashPassword('of nobody');
  const matches = await argon2.verify(hash ?? (await ofNobody), password.normalize('NFC'));
  return matches && hash !== undefined;
}
