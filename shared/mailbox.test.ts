import { expect, it } from 'vitest';
import { mailbox } from './mailbox.ts';

it.each([
  ['You@Example.com', 'you@example.com'],
  ['you+news@example.com', 'you@example.com'],
  ['first.last@example.com', 'first.last@example.com'],
  ['First.Last+x@gmail.com', 'firstlast@gmail.com'],
  ['firstlast@GoogleMail.com', 'firstlast@gmail.com'],
  ['you@constructor', 'you@constructor'],
])('%s leads to the mailbox %s', (address, expected) => {
  expect(mailbox(address)).toBe(expected);
});
