/**
 * Words by how strongly they speak for or against something, from -4 to 4.
 * Inflected forms are listed where a suffix rule would go wrong.
 */
const STRENGTHS: ReadonlyArray<readonly [number, string]> = [
  [3.4, 'amazing awesome brilliant excellent exceptional extraordinary fantastic magnificent marvelous marvellous outstanding perfect phenomenal spectacular stunning superb wonderful'],
  [3, 'adore adored adores beautiful best delightful ecstatic flawless gorgeous incredible love loved lovely loves masterpiece thrilled thrilling unbeatable'],
  [2.6, 'charming delighted elegant excited exciting fabulous glad glorious great happy impressive inspiring joy joyful perfectly pleasure splendid terrific treasure'],
  [2.2, 'amused beautifully brilliantly celebrate cheerful enjoy enjoyable enjoyed enjoying enjoys favorite favourite fun fresh friendly generous gem grateful happily hilarious impress impressed recommend recommended recommends refreshing rewarding success superior thankful thanks triumph win winner wins won wow'],
  [1.9, 'accurate appreciate appreciated appreciates attractive comfortable comforting confident cool cozy creative delicious effective efficient gentle good graceful helpful heartwarming honest hopeful intuitive kind nice nicely pleasant pleased polished positive prompt quick reliable respectful responsive safe satisfied satisfying seamless smart smooth smoothly solid strong sweet tasty thoughtful trust trusted valuable warm welcoming well'],
  [1.3, 'better clean clear clever convincing convenient easily easy entertaining fair fast fine fix fixed fixes help helped helping helps improve improved improvement improvements improves interesting like liked likes neat ok okay painless patient popular promising proper ready rich sharp simple stable sturdy support supportive tidy useful worked works worth worthwhile'],
  [0.8, 'adequate calm decent enough fairness harmless moderate tolerable usable'],
  [-0.8, 'average bland dated dull forgettable limited mediocre meh mild noisy odd outdated plain quirky so-so tedious'],
  [-1.3, 'awkward bother bothered bugs buggy bug clumsy cold confused confusing concern concerned cost costly damp dark dim difficult dry errors error expensive flimsy forced fragile hard heavy hesitant issue issues lack lacked lacking lacks late lazy leak leaks less lose missing mess overpriced problem problems question slow slower slowly small stale stiff strange stuck tired unclear uncertain uneven unsure weak weird wobbly worry worried'],
  [-1.9, 'annoyed annoying bad badly boring bored broke broken break breaks clunky complain complained complaint crashed crashes crash damaged delay delayed delays dirty disagree fail failed fails failing failure fault faulty fear flaw flawed flaws frustrated frustrating greedy ignored incomplete inconsistent loses lost lousy mistake mistakes negative neglected nonsense pointless poor poorly regret rejected rude sad sadly scratched sloppy smelly sorry tasteless trouble ugly unable unfair unfortunate unfortunately unhappy unhelpful unpleasant unreliable unresponsive unusable upset useless waste wasted wrong worse'],
  [-2.5, 'angry appalled ashamed avoid cheat cheated cruel disappoint disappointed disappointing disappointment disaster dishonest disrespectful dreadful garbage hate hated hates hostile incompetent infuriating insult insulting junk liar lie lied lies miserable nightmare offensive outrage outraged painful pathetic refund rotten rubbish ruin ruined ruins scam stupid suffer suffered terrible trash ugh unacceptable worthless'],
  [-3.2, 'abysmal abhorrent atrocious awful catastrophe catastrophic deplorable despise despised disgrace disgraceful disgust disgusted disgusting hideous horrendous horrible horribly horrific revolting vile worst'],
]

/** Pictures count like words. */
const EMOJI: ReadonlyArray<readonly [number, string]> = [
  [3, '😍 🥰 🤩 🏆 💯 ❤️ ❤ 💖 💕 🎉'],
  [2.2, '😀 😃 😄 😁 😂 🤣 😊 🙂 😎 👏 🙌 👍 ✨ 🔥 💪 🥳 ⭐ 🌟 ✅'],
  [-0.8, '😐 😑 🙄 😬 😕'],
  [-2, '🙁 ☹️ ☹ 😞 😒 😔 😟 😢 😩 😫 👎 ❌ 💔 😴'],
  [-3, '😠 😡 🤬 😭 🤮 🤢 💩 😤'],
]

/** Faces of punctuation. */
const EMOTICONS: ReadonlyArray<readonly [number, string]> = [
  [2.2, ':) :-) =) :D :-D =D ^_^ <3 xD XD ;) ;-) :] (: :3'],
  [-2.2, ':( :-( =( :[ ): :/ :-/ :\\ D: >:( :\'( ;( </3 -_-'],
]

/** Fixed phrases whose parts would say something else. */
const PHRASES: ReadonlyArray<readonly [number, string]> = [
  [2.4, 'no problem|no complaints|no issues|no regrets|can not complain|could not be happier|could not ask for more|second to none|hard to beat|to die for|blown away|top notch|works like a charm|on point|thumbs up|well worth|can not wait|game changer|could not have been better|can not recommend it enough|can not recommend this enough|can not recommend them enough'],
  [-2.4, 'waste of time|waste of money|let down|fell apart|fall apart|falls apart|rip off|ripped off|give up|gave up|fed up|sick of|nothing special|never again|no good|no use|not worth|stay away|too bad|thumbs down|a joke|doa|out of order|for nothing|no longer works|stopped working|not even|does not work|did not work|do not bother|do not buy|money back'],
]

export const WORDS = index(STRENGTHS, ' ')
export const SYMBOLS = new Map([...index(EMOJI, ' '), ...index(EMOTICONS, ' ')])
/** Phrases by their first word. */
export const PHRASES_BY_FIRST = new Map<string, { readonly words: readonly string[]; readonly valence: number }[]>()
for (const [phrase, valence] of index(PHRASES, '|')) {
  const words = phrase.split(' ')
  const first = words[0] ?? ''
  PHRASES_BY_FIRST.set(first, [...(PHRASES_BY_FIRST.get(first) ?? []), { words, valence }])
}

/** Turn what follows around. */
export const NEGATORS = new Set(
  'not no never none nobody nothing neither nor nowhere without hardly barely scarcely rarely seldom cannot lacks lacking'.split(' '),
)

/** Make what follows stronger (above 0) or weaker. */
export const DEGREES = new Map<string, number>([
  ...'absolutely completely extremely incredibly insanely totally utterly deeply enormously'.split(' ').map((w) => [w, 0.4] as const),
  ...'very really so such too truly highly super remarkably especially particularly thoroughly most damn quite hugely'.split(' ').map((w) => [w, 0.28] as const),
  ...'slightly somewhat kinda sorta fairly partly mildly almost marginally occasionally little bit rather a-bit less'.split(' ').map((w) => [w, -0.28] as const),
])

/** Before a word they say that it did not come true: "wanted to like", "could have been great". */
export const UNREAL: readonly (readonly string[])[] = [
  ['wanted', 'to'],
  ['used', 'to'],
  ['hoped', 'to'],
  ['could', 'have'],
  ['should', 'have'],
  ['would', 'have'],
]

/** After these the speaker says what counts. */
export const CONTRASTS = new Set(['but', 'however', 'yet', 'although', 'though', 'nevertheless', 'except'])

function index(groups: ReadonlyArray<readonly [number, string]>, separator: string): Map<string, number> {
  return new Map(groups.flatMap(([valence, words]) => words.split(separator).map((word) => [word, valence] as const)))
}
