#!/usr/bin/python3
"""Write rows.npz for the later pretraining of lexi-base: rows of 129 tokens and which of them are learnt. All of the documents of make_corpus.py, and lists
of words that are said again (in the same order, another one, sorted, numbered, a word a line, in part), so that the model learns to copy words that it was
shown; of these the answers alone are learnt. lists.npz has the latter without the corpus.
Words are drawn from the corpus' own vocabulary and lists; no word-association norm is read, and no ranking of words by strength is shown.
Usage, after make_corpus.py, with the tokenizer in model/: add_lists.py [SHARE OF THE CORPUS, 1] [ENGLISH LISTS, 36000] [CHINESE LISTS, 10000]"""
import json, random, re, sys
import numpy as np
from lexbase_tok import Tok
random.seed(11); EOT = '<|endoftext|>'
T = Tok('model/tokenizer.json'); eot = T.sp[EOT]
read = lambda l: [x.strip('\n') for x in open(f'corpus_{l}.txt', encoding='utf8').read().split('\n' + EOT + '\n')]
en, zh = read('en'), read('zh')
chat = lambda u, a: f'<|im_start|>user\n{u}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>'
V = [w for w in json.load(open('lex_vocab.json')) if len(w) > 2]
E = [(m[1], m[2].split(', ')) for m in (re.match(r'(?:Words related|Related) to ([a-z ]+): ([a-z, ]+)\.$', d) for d in en) if m]
Z = [(m[1], re.split('[，、]', m[2])) for m in (re.match(r'和“(.+)”有关的词：(.+)。$', d) for d in zh) if m]
ZV = sorted({w for c, l in Z for w in [c] + l})
draw = lambda V: V[int(len(V) * random.random() ** 1.5)]     # V is sorted by frequency
def words(lists, vocab):
    """A topic and 2 to 8 words, of a list or of none."""
    n = random.choice((2, 3, 3, 4, 4, 5, 6, 8)); c, l = random.choice(lists); l = list(dict.fromkeys(l))
    if random.random() < .6: l = list(dict.fromkeys(draw(vocab) for _ in range(n)))
    random.shuffle(l); return c, l[:n]
mixed = lambda l: random.sample(l, len(l))
ORD = 'First Second Third Fourth Fifth Sixth Seventh Eighth'.split(); ZORD = '一二三四五六七八'
def english():
    c, l = words(E, V); s = ', '.join(l); k = random.choices(range(12), (1, 3, 2, 1, 4, 1, 4, 4, 2, 2, 1, 2))[0]; a = mixed(l)
    u = random.choice((f'{{}}: {s}', f'{{}} {s}.', f'{{}}.\nTopic: {c}\nWords: {s}', f'{{}}.\nWords: {s}'))
    if k == 0: return chat(u.format('Repeat'), ', '.join(l))
    if k == 1: return chat(u.format('Shuffle'), ' ' + ', '.join(a))
    if k == 2: return chat(u.format('Say these words in another order'), ', '.join(a))
    if k == 3: return chat(u.format('Number these words'), '\n'.join(f'{i + 1}. {w}' for i, w in enumerate(l)))
    if k == 4: return chat(u.format('Number these words in any order'), '\n'.join(f'{i + 1}. {w}' for i, w in enumerate(a)))
    if k == 5: return chat(u.format('Sort these words by the alphabet'), ', '.join(sorted(l)))
    if k == 6: return chat(u.format('Write a word a line'), '\n'.join(f'- {w}' for w in a))
    if k == 7: return chat(u.format('Which comes first, which next'), '\n'.join(f'{o}: {w}' for o, w in zip(ORD, a)))
    if k == 8: return f'Words: {s}. Again: {s}. In another order: {", ".join(a)}.'
    if k == 9: b = a[:random.randint(1, len(a))]; return chat(u.format(f'Choose {len(b)} of these words'), ' ' + ', '.join(b))
    if k == 10: return chat(u.format('Repeat a word at a time'), '\n'.join(f'Word {i + 1}: {w}' for i, w in enumerate(l)))
    return f' {c}: {s}. The same words: {", ".join(a)}.'
def chinese():
    c, l = words(Z, ZV); s = '，'.join(l); k = random.choices(range(8), (1, 2, 2, 3, 3, 2, 2, 2))[0]; a = mixed(l)
    u = random.choice((f'{{}}：{s}', f'{{}}。\n主题：{c}\n词语：{s}', f'{{}}。\n词语：{s}'))
    if k == 0: return chat(u.format('重复'), '，'.join(l))
    if k == 1: return chat(u.format('打乱顺序'), '，'.join(a))
    if k == 2: return chat(u.format('给这些词编号'), '\n'.join(f'{i + 1}、{w}' for i, w in enumerate(a)))
    if k == 3: return chat(u.format('每行写一个词'), '\n'.join(a))
    if k == 4: return chat(u.format('哪个在前，哪个在后'), '\n'.join(f'第{o}：{w}' for o, w in zip(ZORD, a)))
    if k == 5: b = a[:random.randint(1, len(a))]; return chat(u.format(f'从中选{len(b)}个词'), '，'.join(b))
    if k == 6: return f'词语：{s}。再说一遍：{s}。换个顺序：{"，".join(a)}。'
    return f'{c}：{s}。同样的词：{"，".join(a)}。'
share, ne, nz = (float(a) for a in (sys.argv[1:] + ['1', '36000', '10000'][len(sys.argv) - 1:]))
docs = [d for d in en + zh if random.random() < share]; lists = [english() for _ in range(int(ne))] + [chinese() for _ in range(int(nz))]
for d in random.sample(lists, 8): print(repr(d))
# Rows of 129 tokens and which of them are learnt: all of the corpus, in one stream; of lists the answers alone, whole lists to a row.
SAID = re.compile('assistant\n|Again:|The same words:|再说一遍：|同样的词：')
def pair(d):
    at = SAID.search(d).end(); a, b = T.encode(d[:at]), T.encode(d[at:]) + [eot]
    return a + b, [0] * len(a) + [1] * len(b)
rows, learnt = [], []
stream = [t for d in random.sample(docs, len(docs)) for t in T.encode(d) + [eot]]
for i in range(0, len(stream) - 129, 129): rows.append(stream[i:i + 129]); learnt.append([1] * 129)
n = len(rows); r, w = [], []
for d in lists:
    t, m = pair(d)
    if len(t) > 129: continue
    if len(r) + len(t) > 129: rows.append(r + [eot] * (129 - len(r))); learnt.append(w + [0] * (129 - len(w))); r, w = [], []
    r += t; w += m
order = np.random.default_rng(3).permutation(len(rows)); rows, learnt = np.array(rows, np.uint16)[order], np.array(learnt, np.uint8)[order]
np.savez('rows.npz', rows=rows, learnt=learnt); k = order >= n; np.savez('lists.npz', rows=rows[k], learnt=learnt[k])
print(len(rows), 'rows,', n, 'of the corpus;', learnt.sum(), 'tokens learnt,', learnt[order < n].sum(), 'of the corpus')
