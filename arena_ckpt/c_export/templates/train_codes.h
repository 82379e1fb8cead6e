#define ${NAME}_NONFINITE_LOSS 1  /* the loss is NaN or infinite; no weight changed */
#define ${NAME}_FEED_ENDED 4      /* the feed had no more samples; no weight changed */
#define ${NAME}_STATE_CORRUPT 5   /* a state is damaged or incomplete */
#define ${NAME}_OTHER_PLAN 6      /* a state is whole, but of another plan */
#define ${NAME}_IO 7              /* a read or write callback failed */

#define ${NAME}_BATCH $batch /* samples of one step */
#define ${NAME}_PASSES $passes /* micro-batches of one step */
$label_macro
#define ${NAME}_STATE_BYTES $state_bytes
