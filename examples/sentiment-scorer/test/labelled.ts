import type { Label } from '../src/scorer.js'

/**
 * Sentences with the label that a reader gives them. They are meant to be
 * hard in the ways that reviews are: some of them the scorer gets wrong, and
 * the confidence has to know.
 */
const SENTENCES: Readonly<Record<Label, string>> = {
  positive: `
The staff were friendly and the room was spotless.
I love this phone, the camera is fantastic!
Works like a charm, no complaints.
Not bad at all, I would come back.
Delivery was late, but the food was absolutely delicious.
Best purchase I have made this year 😍
It's really easy to set up and it runs smoothly.
The plot is simple yet the acting is superb.
Customer support was quick, helpful and kind.
I can't recommend this enough.
Exceeded every expectation I had.
My kids play with it every day.
Sooo good, we ordered twice :)
Although the cover is ugly, the book is wonderful.
AMAZING value for the price!!!
I was sceptical at first; now I use it daily.
Five stars from me.
The update fixed every bug I had reported.
Battery lasts two full days.
What a delightful little café.
The hotel could not have been better.
Thank you for the fast and honest answer.
A bit expensive, but worth every penny.
This is how it should be done.
The best part is that it never crashes.
You won't regret buying this.
Great sound, solid build, fair price.
The team went out of their way for us.
I have never been disappointed here.
Finally a tool that respects my time.
The soup was to die for.
Smooth ride, comfortable seats, polite driver.
She sang beautifully and the crowd was thrilled.
Nothing to complain about.
It does exactly what it says on the tin.
No problem with the return, money arrived the next day.
Wow, just wow 🔥🔥
Cheap and cheerful, and I mean that kindly.
The instructions are clear and the parts fit perfectly.
I was blown away by the view.`,
  negative: `
The screen broke after two days.
Terrible service, we waited an hour.
I would not recommend this to anyone.
The food was good, but the waiter was incredibly rude.
A complete waste of money.
It's not very useful and the manual is confusing.
Worst hotel I have ever stayed in!!!
They never answered my emails.
The app keeps crashing and support ignores me :(
I wanted to like it. I really did.
Great, another update that deletes my settings.
Looks nice, however it fell apart within a week.
I expected more for this price.
Not worth the trouble.
My order arrived without the charger.
The battery is dead by noon.
HORRIBLE smell, had to throw it away 🤮
Nobody could help us and nobody cared.
If you enjoy waiting, this is the place for you.
The sequel lacks everything that made the first one good.
Do not buy this.
Save yourself the trip.
The sound is tinny and the cable is too short.
I used to love this place, now it is a disaster.
It stopped working the day the warranty ended.
The room was cold, dirty and noisy.
Returned it the same afternoon.
Poorly made and overpriced.
I fell asleep halfway through.
The worst part is that nobody apologised.
Yet another broken promise.
They charged me twice and refuse to refund.
So disappointed, I was excited for this.
The taste is bland and the portions are small.
Slow, buggy, and full of ads.
I want those two hours of my life back.
This makes me so angry 😡
It could have been great.
Nothing works and the staff doesn't even try.
Barely usable on a small screen.`,
  neutral: `
The meeting starts at nine.
The parcel contains two cables and a manual.
It is a blue car.
I bought this in March.
The store opens on Monday and closes at six.
We stayed for three nights in a double room.
The film runs for ninety minutes.
Please send me the invoice.
There are twelve chapters in the book.
It looks like rain tomorrow.
The second edition has an index as well as a glossary.
She works for a bank in Oslo.
The device has a port on the left side.
Has anybody tried the new version?
The train to Brno leaves from platform two.
It comes in red, green and white.
The recipe needs flour, eggs and milk.
He moved to Lisbon in 2019.
My sister has the same model.
The report is attached.
You can change the language in the settings.
The museum is next to the library.
I ordered the large one.
It weighs four kilograms.
The talk is about error handling in compilers.
The password must have ten characters.
Use a sharp knife to open the box.
It is neither good nor bad.
The hospital treats patients with severe pain.
The war ended in 1945.
Click the help button to see the list.
The price did not change since last year.
Some people love it, some people hate it.
This is the third time I read it.
The cold water tap is on the right.
The company issues a statement every quarter.
A fine of forty euros applies.
It was okay, I guess.
The company well drilled a hole there.
The room faces the yard.`,
}

export const LABELLED: readonly { readonly text: string; readonly label: Label }[] = Object.entries(SENTENCES).flatMap(
  ([label, sentences]) =>
    sentences
      .trim()
      .split('\n')
      .map((text) => ({ text, label: label as Label })),
)
