import { expect, it } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { maskKey, productOf, readKey } from './key.ts';

it('reads what the server makes', () => {
  for (const mode of ['live', 'test'] as const) {
    const { plaintext, id } = mintKey('acme', mode);
    expect(readKey(plaintext)).toEqual({ product: 'acme', mode, id });
    expect(productOf(plaintext)).toBe('acme');
  }
});

it('a key that was not copied whole, or has a letter changed, is refused without being repeated', () => {
  const { plaintext } = mintKey('tg', 'live');
  const swapped = plaintext.slice(0, 30) + (plaintext[30] === 'a' ? 'b' : 'a') + plaintext.slice(31);
  for (const wrong of ['', plaintext.slice(0, -1), `${plaintext}x`, ` ${plaintext}`, swapped]) {
    expect(() => readKey(wrong)).toThrow('That is not a whole key.');
  }
});

it('shows enough of a key to recognise it by, and nothing of its secret', () => {
  const { plaintext, secret, id, lastFour } = mintKey('tg', 'test');
  const shown = maskKey(plaintext);
  expect(shown).toBe(`tg_test_${id}...${lastFour}`);
  expect(shown).not.toContain(secret.slice(0, 6));
});

it('a key of an unknown form names no folder elsewhere', () => {
  expect(productOf('../../etc_live_x')).toBe('unknown');
});
