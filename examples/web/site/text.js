// The text the GPT learns from unless the user gives another: written for this page, with much
// that comes again, so that a small network has something to find in a short time.

const DAYS = [
  ['Monday', 'a basket of pears', 'The miller', 'The pears were green and the road was dry.'],
  ['Tuesday', 'a basket of plums', 'The weaver', 'The plums were blue and the road was wet.'],
  ['Wednesday', 'a basket of eggs', 'The potter', 'The eggs were brown and the road was steep.'],
  ['Thursday', 'a basket of bread', 'The farmer', 'The bread was warm and the road was white.'],
  ['Friday', 'a basket of fish', 'The ferryman', 'The fish were silver and the road was long.'],
  ['Saturday', 'a basket of wool', 'The shepherd', 'The wool was soft and the road was green.'],
];

const verse = ([day, load, who, road]) => `On ${day} morning the bell rang once and the town woke up.
${who} took ${load} and walked down to the river.
${road}
"Good day," said the old bridge, "and what do you bring?"
"I bring ${load}, and I bring it for the king."
"Then step on my stones, and step on them slow."
And over the river went ${load}, and so we go.

`;

export const TEXT = `${DAYS.map(verse).join('')}On Sunday morning the bell rang twice and the town slept on.
Nobody took a basket and nobody walked down to the river.
"Good day," said the old bridge, "and who comes to sing?"
"I come," said the river, "and I sing for the king."
`;
